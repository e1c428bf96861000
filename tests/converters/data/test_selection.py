"""Splits, subsets and class ids brought in line with a model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import DataError
from edgeloop_converters.data import Dataset, fit_labels, pick, pick_stratified, split


def dataset(labels: list[int] | None, size: int | None = None, names: tuple[str, ...] | None = None) -> Dataset:
    count = len(labels) if labels is not None else int(size or 0)
    ids = None if labels is None else np.asarray(labels, np.int64)
    return Dataset("tensor", "test", count, lambda i: np.full(2, i, np.float32), ids, names, (2,))


@given(st.lists(st.integers(0, 5), min_size=2, max_size=80), st.integers(1, 100), st.integers(0, 5))
def test_a_split_is_disjoint_complete_and_repeatable(labels: list[int], count: int, seed: int) -> None:
    data = dataset(labels)
    one, two = split(data, count, seed), split(data, count, seed)
    assert np.array_equal(one.calibration, two.calibration)
    joined = np.concatenate([one.calibration, one.evaluation])
    assert sorted(joined.tolist()) == list(range(len(labels)))
    assert 1 <= len(one.calibration) <= max(1, len(labels) // 2)
    assert len(one.evaluation) >= 1


def test_classes_are_drawn_evenly() -> None:
    data = dataset([0] * 90 + [1] * 5 + [2] * 5)
    assert data.labels is not None
    counts = np.bincount(data.labels[pick(data, 15, 3)])
    assert counts.tolist() == [5, 5, 5]


def test_both_parts_of_a_split_have_the_classes_of_the_whole() -> None:
    data = dataset([0] * 300 + [1] * 30 + [2] * 30)
    parts = split(data, 120, 3)
    assert data.labels is not None
    assert np.bincount(data.labels[parts.calibration]).tolist() == [100, 10, 10]
    assert np.bincount(data.labels[parts.evaluation]).tolist() == [200, 20, 20]


def test_classes_of_one_size_are_drawn_evenly_either_way() -> None:
    data = dataset([i % 4 for i in range(100)])
    assert pick_stratified(data, 30, 1).tolist() == pick(data, 30, 1).tolist()


def test_a_smaller_draw_is_part_of_a_larger_one() -> None:
    data = dataset([i % 4 for i in range(100)])
    assert set(pick(data, 10, 1)) <= set(pick(data, 40, 1))


def test_unlabelled_data_are_split_too() -> None:
    parts = split(dataset(None, 10), 4)
    assert (len(parts.calibration), len(parts.evaluation)) == (4, 6)


def test_a_subset_keeps_samples_and_labels_together() -> None:
    part = dataset([3, 4, 5]).subset([2, 0])
    assert part.labels is not None
    assert part.labels.tolist() == [5, 3]
    assert part.sample(0)[0] == 2


def test_class_names_are_found_among_the_labels() -> None:
    data = dataset([0, 1, 1], names=("Hot_Dog", "tinca tinca"))
    fitted = fit_labels(data, ["background", "tench, Tinca tinca", "hot dog"], 3)
    assert fitted.labels is not None
    assert fitted.labels.tolist() == [2, 1, 1]


@pytest.mark.parametrize(
    ("labels", "names", "given", "outputs", "words"),
    [
        ([0, 1], ("cat", "dog"), ("cat", "cow"), 2, "class 'dog' is not among the 2 labels"),
        ([0, 1], ("cat", "dog"), (), 3, "2 classes but the model has 3 outputs"),
        ([0, 5], None, (), 3, r"class id 5 \(1 samples\) but the model has 3 outputs"),
        ([0, 1], None, ("a",), 2, "1 labels but the model has 2 outputs"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    labels: list[int], names: tuple[str, ...] | None, given: tuple[str, ...], outputs: int, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        fit_labels(dataset(labels, names=names), given, outputs)


def test_a_single_class_is_said() -> None:
    assert any("one class" in note for note in fit_labels(dataset([1, 1, 1]), (), 3).notes)
