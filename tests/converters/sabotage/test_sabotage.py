"""Deliberate faults: edgeloop says so or repairs, and is silent where all is well. Real models: `docs/sabotage.md`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import pytest

from support.sabotage import HARM, Case, digits_cases, run_edgeloop

QUICK = ("outlier channel", "wrong mean and std", "too few", "healthy")
REPAIRED = ("outlier channel", "PReLU collapse", "masked softmax", "flat softmax")
CAUGHT = ("wrong mean and std", "SiLU collapse", "float layers", "hybrid", "slow scheme", "too few", "single class")
HEALTHY = ("healthy", "healthy SiLU", "healthy, no labels")


@pytest.fixture(scope="module")
def cases() -> Mapping[str, Case]:
    model = (resources.files("edgeloop_converters.demo") / "digits.tflite").read_bytes()
    return {case.key: case for case in digits_cases(model)}


def marked(*keys: str) -> list[object]:
    return [key if key in QUICK else pytest.param(key, marks=pytest.mark.slow) for key in keys]


@pytest.mark.parametrize("key", marked(*REPAIRED))
def test_what_a_model_brings_with_it_is_repaired(cases: Mapping[str, Case], key: str, tmp_path: Path) -> None:
    outcome = run_edgeloop(cases[key], tmp_path)
    assert outcome.verdict == "repaired", outcome
    assert outcome.shipped is not None and outcome.shipped >= cases[key].attainable - HARM


@pytest.mark.parametrize("key", marked(*CAUGHT))
def test_what_only_the_user_can_mend_is_said(cases: Mapping[str, Case], key: str, tmp_path: Path) -> None:
    outcome = run_edgeloop(cases[key], tmp_path)
    assert outcome.verdict in ("caught", "repaired"), outcome


@pytest.mark.parametrize("key", marked(*HEALTHY))
def test_there_is_no_false_alarm(cases: Mapping[str, Case], key: str, tmp_path: Path) -> None:
    outcome = run_edgeloop(cases[key], tmp_path)
    assert (outcome.verdict, outcome.said) == ("fine", ""), outcome


def test_every_case_is_tested(cases: Mapping[str, Case]) -> None:
    assert set(cases) == {*REPAIRED, *CAUGHT, *HEALTHY}
