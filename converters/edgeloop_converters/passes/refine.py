"""Refinement of an int8 model: the passes in order, each kept unless the samples that judge speak against it.

Nothing but constants changes (scales, zero points, codes, biases), so speed and ops stay what they were.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.analysis.macs import MacCounter
from edgeloop.errors import EdgeloopError
from edgeloop.progress import Progress, SilentProgress
from edgeloop_converters.calibration import Ranges
from edgeloop_converters.passes.codes import Refinement
from edgeloop_converters.passes.equalization import equalize
from edgeloop_converters.passes.objective import OutputError
from edgeloop_converters.passes.packed import PackedModel
from edgeloop_converters.passes.range_search import search_ranges
from edgeloop_converters.passes.report import PassReport
from edgeloop_converters.passes.rounding import round_weights
from edgeloop_converters.passes.softmax_floor import floor_softmax_inputs

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]
Samples = Sequence[Sequence[Array]]

FEWEST_SAMPLES = 20
FEWEST_JUDGED_BY = 16
CANDIDATES_PER_END = 5
"""Of a range, as the search goes: up to eight, given up after two that do not help."""


@dataclass(frozen=True)
class Effort:
    """How much may be spent: samples that the passes see and further ones that judge, input rows per layer, work for
    trying ranges. budget_s: where all of it stops however far it is; far off, for the same file from a slow host.
    """

    budget_s: float
    fit_samples: int
    judge_samples: int
    rows: int
    search_macs: float


EFFORTS = {"default": Effort(180.0, 128, 64, 8_000, 5e11), "best": Effort(600.0, 512, 128, 60_000, 5e12)}


@dataclass(frozen=True)
class _Pass:
    """apply: changes a model in place. visible_only: how its result is judged, see OutputError. fitted: whether it
    lowers an error on the samples that it sees; then those that judge need only not speak against it.
    """

    apply: Callable[[PackedModel], PassReport]
    visible_only: bool = False
    fitted: bool = True


@dataclass(frozen=True)
class Refined:
    """tflite: the model with the refinement in it; the very bytes that came in where nothing helped. float_model: the
    float model that its inner tensors stand for where that is an equalized one, None: the one that came in.
    """

    tflite: bytes
    refinement: Refinement
    float_model: bytes | None = None


def samples_wanted(available: int, effort: str) -> int:
    """How many of the calibration samples `refine` looks at, so that no more are kept in memory."""
    chosen = EFFORTS[effort]
    return min(available, chosen.fit_samples + chosen.judge_samples)


def refine(
    float_model: bytes,
    packed: bytes,
    ranges: Ranges,
    samples: Samples,
    *,
    effort: str = "default",
    seed: int = 0,
    budget_s: float | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> Refined:
    """Equalization, weight rounding with bias correction, range search, softmax floor, on a model packed from `ranges`.

    samples: float model inputs, one array per input, as calibration saw them; at least 20, or nothing is done. What the
    passes do not look at judges them; of few samples they see all, which then judge too. Measured with the kernels that
    XNNPACK gives on this host.
    """
    chosen = EFFORTS[effort]
    deadline = time.monotonic() + (chosen.budget_s if budget_s is None else budget_s)
    if len(samples) < FEWEST_SAMPLES:
        report = PassReport("refinement", f"{len(samples)} samples are too few to judge by", 0.0, accepted=False)
        return Refined(packed, Refinement(ranges, reports=(report,)))
    fit, judging = _split(samples, chosen, seed)
    try:
        return _run(float_model, packed, ranges, fit, judging, chosen, seed, threads, deadline, progress)
    except (EdgeloopError, RuntimeError, np.linalg.LinAlgError) as error:  # the packed model is good without
        report = PassReport(
            "refinement", f"gave up: {(str(error) or type(error).__name__).splitlines()[0][:200]}", 0.0, accepted=False
        )
        return Refined(packed, Refinement(ranges, reports=(report,)))


def _run(
    float_model: bytes,
    packed: bytes,
    ranges: Ranges,
    fit: Samples,
    judging: Samples,
    chosen: Effort,
    seed: int,
    threads: int,
    deadline: float,
    progress: Progress | None,
) -> Refined:
    if not PackedModel(float_model, packed, ranges).groups:
        report = PassReport("refinement", "no int8 activations whose range is free", 0.0, accepted=False)
        return Refined(packed, Refinement(ranges, reports=(report,)))
    reports, twin = [], None
    if time.monotonic() < deadline:
        equalized = equalize(float_model, packed, ranges, fit, threads)
        reports.append(equalized.report)
        if equalized.report.accepted:
            float_model = twin = equalized.float_model
            packed, ranges = equalized.packed, equalized.ranges
    current = PackedModel(float_model, packed, ranges)
    judges = {v: OutputError(float_model, judging, threads, visible_only=v, typical=True) for v in (False, True)}
    for run in _passes(float_model, fit, chosen, seed, threads, deadline, progress or SilentProgress()):
        if time.monotonic() >= deadline:
            reports.append(PassReport("refinement", "out of time: what is left was not done", 0.0, accepted=False))
            break
        judge = judges[run.visible_only]
        candidate = current.copy()
        before = judge.per_sample(current)
        report = run.apply(candidate)
        after = judge.per_sample(candidate)
        accepted = not speaks_against(before, after) if run.fitted else bool(after.mean() < before.mean())
        reports.append(_judged(report, "error" if judging is fit else "held_out_error", before, after, accepted))
        if accepted:
            current = candidate
    refinement = Refinement(replace(ranges, tensors=current.ranges), current.weights, current.biases, tuple(reports))
    changed = bool(current.weights or current.biases or current.ranges != dict(ranges.tensors))
    return Refined(current.write() if changed else packed, refinement, twin)


def speaks_against(before: Doubles, after: Doubles) -> bool:
    """Whether the samples' errors (paired, [samples]) rise by a standard error of their mean or more, or stay equal.

    Few samples judge, and they differ more than the passes do: a rise within chance is no evidence against a pass that
    lowered the error on the many samples it saw.
    """
    change = after - before
    chance = float(change.std(ddof=1)) / np.sqrt(change.size) if change.size > 1 else 0.0
    return bool(change.mean() >= chance)


def _passes(
    float_model: bytes,
    fit: Samples,
    effort: Effort,
    seed: int,
    threads: int,
    deadline: float,
    progress: Progress,
) -> tuple[_Pass, ...]:
    def search(candidate: PackedModel) -> PassReport:
        count = affordable_samples(candidate, len(fit), effort.search_macs)
        error = OutputError(float_model, fit[:count], threads, typical=True)
        return search_ranges(candidate, error, deadline_s=deadline, progress=progress)

    def rounding(candidate: PackedModel) -> PassReport:
        return round_weights(candidate, fit, rows=effort.rows, seed=seed, deadline_s=deadline, progress=progress)

    def floor(candidate: PackedModel) -> PassReport:
        return floor_softmax_inputs(candidate, fit, threads)

    return (_Pass(rounding), _Pass(search), _Pass(floor, visible_only=True, fitted=False))


def affordable_samples(model: PackedModel, available: int, budget_macs: float) -> int:
    """How many samples a candidate may be judged by, so that every range gets its turn.

    Counted in multiply-accumulates, not in measured seconds: the same seed gives the same file on a busy host too.
    """
    main = model.graph.main
    counter = MacCounter(model.graph)
    each = [counter.op(op, main) for op in main.ops]
    ends = sum(2 if model.range_of(group)[0] < 0 else 1 for group in model.groups)
    # A candidate runs what comes after its range: half of the model on average.
    work = ends * CANDIDATES_PER_END * max(1, sum(each)) / 2
    return int(np.clip(budget_macs / work, min(FEWEST_JUDGED_BY, available), available))


def _judged(report: PassReport, key: str, before: Doubles, after: Doubles, accepted: bool) -> PassReport:
    return replace(
        report,
        before={**report.before, key: float(before.mean()) ** 2},
        after={**report.after, key: float(after.mean()) ** 2},
        accepted=accepted,
    )


def _split(samples: Samples, effort: Effort, seed: int) -> tuple[Samples, Samples]:
    """(seen by the passes, judging), in random order: samples often come sorted by class.

    A few held-out samples differ too much to judge by, and are missed where there are not many: then all do both.
    """
    order = np.random.default_rng(seed).permutation(len(samples))
    fit = [samples[i] for i in order[: effort.fit_samples]]
    rest = [samples[i] for i in order[effort.fit_samples :][: effort.judge_samples]]
    return fit, rest if len(rest) >= FEWEST_JUDGED_BY else fit
