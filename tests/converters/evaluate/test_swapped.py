"""Two class folders with each other's names: accuracy falls by little, and nothing else tells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeloop_converters.evaluate.swapped import swapped_classes, swapped_text


def matrix(classes: int, samples: int, right: float) -> np.ndarray:
    """A model that gets a share `right` of every class, and spreads its mistakes."""
    found = np.full((classes, classes), round(samples * (1 - right) / (classes - 1)), np.int64)
    np.fill_diagonal(found, round(samples * right))
    return found


def relabelled(confusion: np.ndarray, order: list[int]) -> np.ndarray:
    return confusion[order + list(range(len(order), len(confusion)))]


@pytest.mark.parametrize("samples", [25, 500])
def test_two_swapped_classes_are_found_and_named(samples: int) -> None:
    confusion = relabelled(matrix(10, samples, 0.75), [1, 0])
    assert swapped_classes(confusion) == [(0, 1)]
    text = swapped_text(confusion, ["cat", "dog", *"cdefghij"])
    assert "of 'cat' are answered as 'dog'" in text and "of 'dog' are answered as 'cat'" in text
    assert "class 0" in swapped_text(confusion)


def test_a_longer_cycle_is_one() -> None:
    assert swapped_classes(relabelled(matrix(10, 100, 0.8), [1, 2, 0])) == [(0, 1, 2)]


@pytest.mark.parametrize("right", [0.3, 0.75, 1.0])
def test_a_model_that_is_merely_poor_is_not_blamed_on_its_labels(right: float) -> None:
    assert swapped_classes(matrix(10, 100, right)) == []


def test_classes_that_are_mistaken_for_one_another_by_chance_are_not_swapped() -> None:
    alike = matrix(10, 100, 0.9)
    alike[0, :2], alike[1, :2] = (44, 50), (50, 44)
    assert swapped_classes(alike) == []
    one_way = matrix(10, 100, 0.9)
    one_way[0, :2] = (10, 80)
    assert swapped_text(one_way) == ""


def test_few_samples_say_nothing() -> None:
    assert swapped_classes(relabelled(matrix(10, 8, 1.0), [1, 0])) == []


@given(arrays(np.int64, (6, 6), elements=st.integers(0, 40)))
def test_any_matrix_gives_cycles_of_classes_that_share_none(confusion: np.ndarray) -> None:
    cycles = swapped_classes(confusion)
    named = [i for cycle in cycles for i in cycle]
    assert len(named) == len(set(named)) and all(len(cycle) > 1 for cycle in cycles)
