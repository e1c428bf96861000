"""The detective's verdict as findings, and how many samples it may look at for a model of this size."""

from __future__ import annotations

from edgeloop.analysis import analyze
from edgeloop.contract import Contract
from edgeloop.graph import Graph
from edgeloop.runtime import open_session
from edgeloop_converters.check_data.detective import ROUNDS, Verdict, investigate
from edgeloop_converters.check_data.finding import NOTE, SEVERE, Finding
from edgeloop_converters.data import Dataset
from edgeloop_converters.evaluate.summary import GUESSING

QUICK_MACS = 3e11
"""What `convert` spends on trying other contracts: about 5 s on two x86-64 cores."""
THOROUGH_MACS = 6e12

_READINGS = 12
_SHORT_ROUNDS = (32, 128)
_ENOUGH_TO_JUDGE = 50


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
    return ([] if verdict is None else _findings(verdict)), verdict


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
