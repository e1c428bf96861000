"""Deliberate faults: edgeloop says so or repairs, and is silent where all is well. Real models: `docs/sabotage.md`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path

import pytest

from support.sabotage import HARM, Case, digits_cases, run_edgeloop

QUICK = ("outlier channel", "wrong mean and std", "too few", "healthy")
REPAIRED = ("outlier channel", "PReLU collapse", "masked softmax", "flat softmax")
CAUGHT = ("wrong mean and std", "SiLU collapse", "float layers", "hybrid", "slow scheme", "too few", "single class")
HEALTHY = ("healthy", "healthy SiLU", "healthy, no labels")


Cases = Mapping[str, Callable[[], Case]]


@pytest.fixture(scope="module")
def cases() -> Cases:
    return digits_cases((resources.files("edgeloop_converters.demo") / "digits.tflite").read_bytes())


def marked(*keys: str) -> list[object]:
    return [key if key in QUICK else pytest.param(key, marks=pytest.mark.slow) for key in keys]


@pytest.mark.parametrize("key", marked(*REPAIRED))
def test_what_a_model_brings_with_it_is_repaired(cases: Cases, key: str, tmp_path: Path) -> None:
    case = cases[key]()
    outcome = run_edgeloop(case, tmp_path)
    assert outcome.verdict == "repaired", outcome
    assert outcome.shipped is not None and outcome.shipped >= case.attainable - HARM


@pytest.mark.parametrize("key", marked(*CAUGHT))
def test_what_only_the_user_can_mend_is_said(cases: Cases, key: str, tmp_path: Path) -> None:
    outcome = run_edgeloop(cases[key](), tmp_path)
    assert outcome.verdict in ("caught", "repaired"), outcome


@pytest.mark.parametrize("key", marked(*HEALTHY))
def test_there_is_no_false_alarm(cases: Cases, key: str, tmp_path: Path) -> None:
    outcome = run_edgeloop(cases[key](), tmp_path)
    assert (outcome.verdict, outcome.said) == ("fine", ""), outcome


def test_every_case_is_tested(cases: Cases) -> None:
    assert set(cases) == {*REPAIRED, *CAUGHT, *HEALTHY}
