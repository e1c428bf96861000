"""The preprocessing detective on the packaged digits model: every sabotage is named, a right contract is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.runtime import Session, open_session
from edgeloop_converters.check_data.contract import THOROUGH_MACS, contract_findings
from edgeloop_converters.check_data.detective import Verdict, investigate, mcnemar
from edgeloop_converters.check_data.readings import image_readings, label_readings, tensor_readings
from edgeloop_converters.data import Dataset, open_data
from edgeloop_converters.demo.digits import load_split

SPEC = InputSpec("image", "image", (8, 8), "gray", std=(255.0,))
NAMES = tuple("0123456789")


@pytest.fixture(scope="module")
def session(digits_tflite: Path) -> Iterator[Session]:
    with open_session(digits_tflite) as opened:
        yield opened


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    split = load_split()
    path = tmp_path_factory.mktemp("scans") / "d.npz"
    np.savez(path, x=split.held_out_images, y=split.held_out_labels)
    return open_data(path)


def title(verdict: Verdict | None) -> str:
    assert verdict is not None
    return "" if verdict.suspicion is None else verdict.suspicion.title


@pytest.mark.parametrize("seed", range(5))
def test_a_right_contract_is_left_alone(session: Session, scans: Dataset, seed: int) -> None:
    verdict = investigate(session, SPEC, scans, NAMES, seed=seed)
    assert title(verdict) == ""
    assert verdict is not None and not verdict.is_chance
    assert verdict.samples <= 64, "one short round is enough when nothing else is in the race"


def test_wrong_mean_and_std_are_named(session: Session, scans: Dataset) -> None:
    verdict = investigate(session, replace(SPEC, mean=(255.0,), std=(20.0,)), scans, NAMES)
    assert title(verdict) in ("0..1", "pixels 0..255")
    assert verdict is not None and verdict.suspicion is not None
    assert verdict.suspicion.accuracy > 0.9 > verdict.accuracy
    assert verdict.suspicion.fix.startswith("--mean 0 --std")


@pytest.mark.parametrize(("shift", "says"), [(1, "one too high"), (-1, "one too low")])
def test_class_ids_off_by_one_are_named(session: Session, scans: Dataset, shift: int, says: str) -> None:
    assert scans.labels is not None
    kept = np.flatnonzero((scans.labels + shift >= 0) & (scans.labels + shift < 10))
    shifted = scans.subset(kept)
    shifted = replace(shifted, labels=scans.labels[kept] + shift)
    assert says in title(investigate(session, SPEC, shifted, NAMES))


def test_a_labels_file_that_is_not_in_the_models_order_is_named(session: Session, scans: Dataset) -> None:
    assert scans.labels is not None
    order = (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)
    table = np.argsort(order)
    wrong = replace(scans, labels=table[scans.labels])
    names = tuple(str(i) for i in order)
    assert "model counts its classes" in title(investigate(session, SPEC, wrong, names))


def test_any_other_class_order_is_found_on_one_half_and_proven_on_the_other(session: Session, scans: Dataset) -> None:
    assert scans.labels is not None
    table = np.random.default_rng(3).permutation(10)
    verdict = investigate(session, SPEC, replace(scans, labels=table[scans.labels]))
    assert "classes are in another order" in title(verdict)
    assert f"{table[0]} -> 0" in title(verdict)


def test_another_class_order_is_found_where_it_misled_the_choice_of_the_scaling(
    session: Session, scans: Dataset
) -> None:
    assert scans.labels is not None
    table = np.random.default_rng(3).permutation(10)
    blind = replace(SPEC, std=(1e6,))
    verdict = investigate(session, blind, replace(scans, labels=table[scans.labels]))
    assert "classes are in another order" in title(verdict)
    assert verdict is not None and verdict.suspicion is not None
    assert verdict.suspicion.fix.startswith("--mean ")


def test_random_labels_have_no_better_order(session: Session, scans: Dataset) -> None:
    labels = np.random.default_rng(0).integers(0, 10, len(scans))
    verdict = investigate(session, SPEC, replace(scans, labels=labels), NAMES)
    assert title(verdict) == ""
    assert verdict is not None and verdict.is_chance


def test_a_wrong_way_to_resize_is_named(session: Session, scans: Dataset) -> None:
    def with_margins(i: int) -> np.ndarray:
        scan = scans.read(i)
        noise = np.random.default_rng(i).integers(0, 256, (8, 8), np.uint8)
        return np.concatenate([noise, scan, noise], axis=1)

    wide = replace(scans, read=with_margins)
    assert title(investigate(session, SPEC, wide, NAMES)) == "resize crop instead of stretch"
    assert title(investigate(session, replace(SPEC, resize="crop"), wide, NAMES)) == ""


def test_nothing_is_said_without_labels_or_with_hardly_any(session: Session, scans: Dataset) -> None:
    assert investigate(session, SPEC, scans.unlabelled()) is None
    assert investigate(session, SPEC, scans.subset(range(10))) is None


def test_mcnemar_is_the_exact_binomial_tail() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(1, 0) == pytest.approx(0.5)
    assert mcnemar(9, 1) == pytest.approx(11 / 1024)
    assert mcnemar(5, 15) > 0.99
    assert mcnemar(1100, 900) == pytest.approx(4.3e-6, rel=0.1), "the normal tail takes over where sums are long"


def test_fractions_given_for_pixels_are_tried_times_255() -> None:
    spec = InputSpec("x", "image", (8, 8), "rgb", mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.2))
    specs = [r.spec for r in image_readings(spec)]
    assert any(s.mean == pytest.approx((127.5, 102.0, 76.5)) and s.color == "rgb" for s in specs)


def test_no_reading_is_tried_twice() -> None:
    plain = InputSpec("x", "image", (8, 8), "rgb")
    zeros = replace(plain, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    assert len(image_readings(plain)) == len(image_readings(zeros))
    tables = [tuple(r.table) for r in label_readings(10, NAMES)]
    assert len(tables) == len(set(tables)) == 3


def test_folders_named_by_number_may_count_by_number() -> None:
    names = sorted(str(i) for i in range(12))
    by_number = next(r for r in label_readings(12, names) if "by number" in r.title)
    assert by_number.table[names.index("10")] == 10


def test_tensors_are_tried_as_they_look() -> None:
    spec = InputSpec("x", "tensor", shape=(4, 4, 3))
    colored = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3)).astype(np.float32)
    titles = [r.title for r in tensor_readings(spec, colored)]
    assert "0..1" in titles
    assert any("channels in reverse" in t for t in titles)
    sound = np.random.default_rng(0).integers(-20000, 20000, (5, 100)).astype(np.int16)
    assert any("16-bit" in r.title for r in tensor_readings(InputSpec("x", "tensor", shape=(100,)), sound))


def test_two_swapped_classes_are_named_by_the_thorough_check(digits_tflite: Path, scans: Dataset) -> None:
    """Of ten classes two: no contract is better by enough, and accuracy alone does not tell."""
    assert scans.labels is not None
    table = np.array([0, 1, 2, 5, 4, 3, 6, 7, 8, 9])
    wrong = replace(scans, labels=table[scans.labels])
    contract = Contract((SPEC,), OutputSpec("classification", NAMES))
    found, _ = contract_findings(digits_tflite.read_bytes(), contract, wrong, max_macs=THOROUGH_MACS)
    assert [f.severity for f in found] == ["severe"]
    assert "swapped" in found[0].what or "another order" in found[0].what
    right, _ = contract_findings(digits_tflite.read_bytes(), contract, scans, max_macs=THOROUGH_MACS)
    assert right == []
