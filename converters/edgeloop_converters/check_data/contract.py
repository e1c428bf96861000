"""The detective's verdict as findings, and how many samples it may look at for a model of this size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeloop.analysis import analyze
from edgeloop.contract import Contract
from edgeloop.graph import Graph
from edgeloop.runtime import Session, open_session
from edgeloop_converters.check_data.detective import ROUNDS, Verdict, investigate
from edgeloop_converters.check_data.finding import NOTE, SEVERE, Finding
from edgeloop_converters.data import Dataset, pick
from edgeloop_converters.evaluate.metrics import confusion_matrix
from edgeloop_converters.evaluate.summary import GUESSING, MAX_CONFUSION
from edgeloop_converters.evaluate.swapped import swapped_text
from edgeloop_converters.scalings import outputs_with

Indices = npt.NDArray[np.int64]

QUICK_MACS = 3e11
"""What `convert` spends on trying other contracts: about 5 s on two x86-64 cores."""
THOROUGH_MACS = 6e12

_READINGS = 12
_SHORT_ROUNDS = (32, 128)
_ENOUGH_TO_JUDGE = 50
_SWAPPED_SAMPLES, _AT_ONCE = 2000, 32


def contract_findings(
    model: bytes, contract: Contract, dataset: Dataset, *, max_macs: float = QUICK_MACS, seed: int = 0, threads: int = 2
) -> tuple[list[Finding], Verdict | None]:
    """Whether another contract than the given one scores clearly better on labelled samples; see `detective`.

    dataset: raw samples, class ids as the contract reads them. max_macs: how much may be spent.
    """
    if dataset.labels is None or len(contract.inputs) != 1 or contract.output.kind != "classification":
        return [], None
    macs = analyze(Graph.read(model)).macs or 0
    rounds = next((r for r in (ROUNDS, _SHORT_ROUNDS) if macs * _READINGS * r[0] <= max_macs), None)
    if rounds is None:
        what = f"other contracts were not tried: the model takes {macs / 1e9:.1f} GMACs a sample"
        return [Finding("contract", NOTE, what, "`edgeloop check-data` tries them", {"macs": macs})], None
    names = contract.output.labels or dataset.class_names
    with open_session(model, threads=threads) as session:
        verdict = investigate(
            session, contract.inputs[0], dataset, names, output=contract.output.index, seed=seed, rounds=rounds
        )
        found = [] if verdict is None else _findings(verdict)
        if (
            verdict is not None and not found and max_macs >= THOROUGH_MACS
        ):  # the evaluation of `convert` shows it anyway
            most = min(_SWAPPED_SAMPLES, int(max_macs / _READINGS / max(1, macs)))
            found = _swapped(session, contract, pick(dataset, most, seed), dataset, verdict.classes, names or ())
    return found, verdict


def _swapped(
    session: Session, contract: Contract, chosen: Indices, dataset: Dataset, classes: int, names: Sequence[str]
) -> list[Finding]:
    """Classes that are answered as each other's, by the contract as it is."""
    assert dataset.labels is not None
    answers: list[npt.NDArray[np.int64]] = []
    for start in range(0, len(chosen), _AT_ONCE):  # pictures may be large
        frames = [dataset.sample(int(i)) for i in chosen[start : start + _AT_ONCE]]
        raw = outputs_with(session, contract.inputs[0], frames, contract.output.index)
        if raw is None or classes > MAX_CONFUSION:
            return []
        answers.append(raw.argmax(axis=1))
    text = swapped_text(confusion_matrix(dataset.labels[chosen], np.concatenate(answers), classes), names)
    what, _, fix = text.rpartition(": ")
    return [Finding("labels", SEVERE, what, fix, {"samples": len(chosen)})] if text else []


def _findings(verdict: Verdict) -> list[Finding]:
    found = verdict.suspicion
    numbers = {"accuracy": verdict.accuracy, "samples": verdict.samples, "comparisons": verdict.comparisons}
    if found is not None:
        what = (
            f"another contract scores clearly better: {found.title}: {found.accuracy:.1%} instead of "
            f"{verdict.accuracy:.1%} of {verdict.samples} samples right ({found.better} right only with it, "
            f"{found.worse} only without, p = {found.p_value:.1g} over {verdict.comparisons} comparisons)"
        )
        more = {
            "other_accuracy": found.accuracy,
            "better": found.better,
            "worse": found.worse,
            "p_value": found.p_value,
            "title": found.title,
        }
        return [Finding("contract", SEVERE, what, found.fix, {**numbers, **more})]
    if verdict.is_chance and verdict.samples >= _ENOUGH_TO_JUDGE:
        what = (
            f"the model gets {verdict.accuracy:.1%} of {verdict.samples} samples right, {GUESSING} among "
            f"{verdict.classes} classes, and no usual contract is better"
        )
        fix = "check the scaling (--mean, --std, --color), the order of the labels, and the model itself"
        return [Finding("contract", SEVERE, what, fix, numbers)]
    return []
