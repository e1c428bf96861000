"""Each finding from a small data set that has just that fault, and none from one that has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeloop.contract import InputSpec
from edgeloop_converters.check_data.classes import class_findings, count_findings
from edgeloop_converters.check_data.duplicates import duplicate_findings, leak_findings, near_pairs
from edgeloop_converters.check_data.finding import Finding
from edgeloop_converters.check_data.inputs import input_findings, layout_findings, unlike_findings
from edgeloop_converters.check_data.observe import Observed, look_at, observe
from edgeloop_converters.check_data.stability import RangeRows, span_changes, stability_findings
from edgeloop_converters.data import IMAGE, TENSOR, Dataset

PICTURE = InputSpec("x", "image", (32, 32), "rgb")
NUMBERS = InputSpec("x", "tensor", shape=(100,))


def data(samples: Sequence[np.ndarray], kind: str = IMAGE, labels: Sequence[int] | None = None) -> Dataset:
    ids = None if labels is None else np.asarray(labels, np.int64)
    return Dataset(kind, "test", len(samples), lambda i: samples[i], ids, describe=lambda i: f"sample {i}")


def seen(samples: Sequence[np.ndarray], kind: str = IMAGE, labels: Sequence[int] | None = None) -> Observed:
    dataset = data(samples, kind, labels)
    return observe(dataset, range(len(dataset)))


def picture(seed: int, size: int = 32) -> np.ndarray:
    """Blobs, so that it is like a photograph and unlike every other seed's."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC))


def pictures(count: int, start: int = 0) -> list[np.ndarray]:
    return [picture(start + i) for i in range(count)]


def vectors(count: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(0, 1, (count, 100)).astype(np.float32))


def checks(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    return [(f.check, f.severity) for f in findings]


def test_good_data_say_nothing() -> None:
    for samples, kind, spec in ((pictures(60), IMAGE, PICTURE), (vectors(60), TENSOR, NUMBERS)):
        observed = seen(samples, kind, [i % 4 for i in range(60)])
        assert input_findings(observed, spec, "calibration") == []
        assert duplicate_findings(observed, "calibration") == []
        assert class_findings(observed.labels, 4, (), "calibration") == []
    assert leak_findings(seen(pictures(30)), seen(pictures(30, 100))) == []
    assert count_findings(100, 1000) == []


@pytest.mark.parametrize(
    ("spec", "samples", "expected"),
    [
        (PICTURE, [p // 255 for p in pictures(30)], ("range", "warning")),
        (replace(PICTURE, std=(255.0,)), [p // 255 for p in pictures(30)], ("range", "severe")),
        (PICTURE, [*pictures(30), np.full((32, 32, 3), 7, np.uint8)], ("blank", "warning")),
        (PICTURE, [*pictures(30), *[np.zeros((32, 32, 3), np.uint8)] * 4], ("blank", "severe")),
        (PICTURE, [np.repeat(p[..., :1], 3, axis=2) for p in pictures(30)], ("color", "note")),
        (
            replace(NUMBERS, std=(255.0,)),
            [np.linspace(0, 1, 100, dtype=np.float32) * (i % 7 + 1) / 7 for i in range(30)],
            ("range", "severe"),
        ),
        (NUMBERS, [np.arange(-50, 50, dtype=np.int8) + i for i in range(5)], ("dtype", "warning")),
        (NUMBERS, [*vectors(30), np.full(100, np.nan, np.float32)], ("range", "severe")),
        (NUMBERS, [*vectors(40), vectors(1)[0] * 1000], ("outliers", "warning")),
        (NUMBERS, [*vectors(40), np.full(100, 0.3, np.float32)], ("blank", "warning")),
    ],
)
def test_one_fault_gives_one_finding(spec: InputSpec, samples: list[np.ndarray], expected: tuple[str, str]) -> None:
    found = input_findings(seen(samples, spec.kind), spec, "calibration")
    assert checks(found) == [expected]
    assert found[0].fix and "\n" not in found[0].text


@pytest.mark.parametrize(
    "samples",
    [
        [np.asarray([i % 7], np.float32) for i in range(60)],  # one number a sample
        [np.asarray([i % 2, i % 3, 0, 1], np.int32) for i in range(60)],  # a table of few values
        [np.asarray([*range(5 + i % 40), *[0] * (45 - i % 40)], np.int32) for i in range(60)],  # padded token ids
        [np.clip(np.random.default_rng(i).normal(i / 60, 0.3, 100), 0, 1).astype(np.float32) for i in range(60)],
    ],
)
def test_small_tables_and_token_ids_are_no_outliers_copies_or_blanks(samples: list[np.ndarray]) -> None:
    observed = seen(samples, TENSOR)
    spec = InputSpec("x", "tensor", shape=samples[0].shape)
    assert input_findings(observed, spec, "calibration") == []
    assert duplicate_findings(observed, "calibration") == []
    assert leak_findings(observed, observed) == [] or samples[0].size >= 64


def test_unreadable_samples_are_counted() -> None:
    from edgeloop.errors import DataError

    def read(i: int) -> np.ndarray:
        if i == 3:
            raise DataError("image 3.png: cannot be read")
        return picture(i)

    observed = observe(Dataset(IMAGE, "test", 30, read), range(30))
    assert checks(input_findings(observed, PICTURE, "evaluation")) == [("readable", "severe")]


def test_channels_first_arrays_are_named_with_the_transposition() -> None:
    (found,) = layout_findings((3, 32, 48), (32, 48, 3), "d.npz")
    assert (found.check, found.severity) == ("layout", "severe")
    assert "NCHW" in found.what
    assert found.fix == "transpose them: x.transpose(0, 2, 3, 1)"
    assert layout_findings((49, 10), (49, 10, 1), "d.npz") == []
    assert layout_findings((32, 32, 3), (32, 32, 3), "d.npz") == []
    assert layout_findings((7, 7), (5, 5), "d.npz") == [], "not a matter of order: refused when the data are fitted"


def test_copies_are_found_exactly_and_nearly() -> None:
    original = picture(1, 64)
    bigger = np.asarray(cv2.resize(original, (96, 96), interpolation=cv2.INTER_CUBIC))
    packed = cv2.imdecode(cv2.imencode(".jpg", original, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)
    others = [picture(i, 64) for i in range(2, 80)]
    exact = duplicate_findings(seen([original, *others, original.copy()]), "calibration")
    assert checks(exact) == [("duplicates", "note")]
    assert "sample 79 and sample 0" in exact[0].what
    for near in (bigger, packed, np.clip(original.astype(int) + 6, 0, 255).astype(np.uint8)):
        found = duplicate_findings(seen([original, *others, near]), "calibration")
        assert checks(found) == [("near duplicates", "note")], near.shape


def test_many_copies_are_a_warning_and_copies_under_other_labels_too() -> None:
    repeated = pictures(10) * 3
    found = duplicate_findings(seen(repeated, labels=[0] * 10 + [1] * 20), "calibration")
    assert ("duplicates", "warning") in checks(found)
    assert ("labels", "warning") in checks(found)


def test_samples_that_are_not_scaled_alike_are_said() -> None:
    small, large = vectors(40), [255 * v for v in vectors(40, seed=1)]
    (found,) = unlike_findings(seen(small, TENSOR), seen(large, TENSOR))
    assert (found.check, found.severity) == ("range", "severe")
    assert "times apart" in found.what
    assert unlike_findings(seen(small, TENSOR), seen([2 * v for v in small], TENSOR)) == []
    assert unlike_findings(seen(small, TENSOR), seen(pictures(4))) == []


def test_leaks_are_graded_by_their_share() -> None:
    calibration = seen(pictures(40))
    assert checks(leak_findings(calibration, seen(pictures(40)))) == [("leak", "severe")]
    assert checks(leak_findings(calibration, seen([*pictures(2), *pictures(60, 100)]))) == [("leak", "warning")]
    assert checks(leak_findings(calibration, seen([*pictures(1), *pictures(150, 100)]))) == [("leak", "note")]
    brighter = [np.clip(p.astype(int) + 4, 0, 255).astype(np.uint8) for p in pictures(5)]
    assert checks(leak_findings(calibration, seen([*brighter, *pictures(60, 100)]))) == [("near leak", "warning")]


def test_what_to_do_about_a_leak_depends_on_where_the_data_come_from() -> None:
    calibration, evaluation = seen(pictures(4)), seen(pictures(4))
    (given,) = leak_findings(calibration, evaluation)
    (split,) = leak_findings(calibration, evaluation, is_split=True)
    assert "only --data and let it be split" in given.fix
    assert split.fix == "remove the copies from the data, or evaluate on others: --eval DIR"
    assert given.what.endswith("such as sample 0, a name in both")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16])
def test_a_leak_is_seen_in_whatever_type_the_numbers_are_kept(dtype: type) -> None:
    numbers = np.random.default_rng(0).integers(0, 256, (8, 5)).astype(np.int16)
    one, other = (look_at(values[0], is_image=False) for values in (numbers, numbers.astype(dtype)))
    assert one.digest == other.digest != look_at(numbers[1], is_image=False).digest


def test_flat_pictures_are_no_near_duplicates() -> None:
    flat = [np.full((32, 32, 3), i, np.uint8) for i in range(0, 250, 2)]
    assert near_pairs([look_at(f, is_image=True) for f in flat]) == []


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0] * 50, [("classes", "severe")]),
        ([0, 1] * 25, [("classes", "warning")]),
        ([0] * 60 + [1, 2, 3] * 2, [("classes", "note")]),
        ([0, 1, 2], []),  # fewer samples than classes: the draw, not the data
        ([], []),
    ],
)
def test_class_coverage(labels: list[int], expected: list[tuple[str, str]]) -> None:
    assert checks(class_findings(np.asarray(labels, np.int64), 4, ("a", "b", "c", "d"), "calibration")) == expected


def test_too_few_samples() -> None:
    assert checks(count_findings(20, 1000)) == [("samples", "warning")]
    assert checks(count_findings(4, 10)) == [("samples", "severe"), ("samples", "warning")]
    assert count_findings(None, 1000) == []


def rows_of(extremes: np.ndarray) -> RangeRows:
    rows = RangeRows()
    for row in extremes:
        rows.add([f"t{i}" for i in range(extremes.shape[1])], row)
    return rows


def test_ranges_of_a_steady_model_are_stable() -> None:
    high = np.random.default_rng(0).uniform(0.95, 1.0, (200, 8))
    rows = rows_of(np.stack([-high, high], axis=-1))
    assert stability_findings(rows) == []


def test_ranges_that_still_grow_are_counted_with_what_to_type() -> None:
    high = np.random.default_rng(0).pareto(1.2, (64, 8)) + 1
    found = stability_findings(rows_of(np.stack([-high * 0, high], axis=-1)), "min-max", available=1000)
    unstable = next(f for f in found if f.check == "stability")
    assert unstable.severity == "warning"
    assert unstable.what.startswith("32 more samples would change")
    assert "--calibration-samples 128" in unstable.fix
    assert unstable.numbers["of"] == 8


def test_a_sample_that_widens_ranges_alone_is_named() -> None:
    high = np.random.default_rng(0).uniform(0.9, 1.0, (100, 8))
    high[17] = 5.0
    found = stability_findings(rows_of(np.stack([-high, high], axis=-1)), describe=lambda i: f"image {i}.png")
    assert any(f.check == "outliers" and f.what.startswith("image 17.png alone widens 100%") for f in found)


def test_the_change_is_that_of_calibrating_on_fewer() -> None:
    extremes: Any = np.zeros((10, 1, 2))
    extremes[:, 0, 1] = 1.0
    assert span_changes(extremes, 5, "grouped") == pytest.approx([0.0])


def test_observing_keeps_no_pixels(tmp_path: Path) -> None:
    observed = seen(pictures(5))
    assert observed.samples[0].thumb is not None
    assert observed.samples[0].thumb.nbytes == 256
    assert observed.samples[0].mean == pytest.approx(float(picture(0).mean()), abs=0.5)
