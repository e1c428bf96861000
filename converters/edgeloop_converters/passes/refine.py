"""Refinement of an int8 model: the passes in order, each kept only where samples that it did not see agree.

Nothing but constants changes (scales, zero points, codes, biases), so speed and ops stay what they were.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import EdgeloopError
from edgeloop.progress import Progress, SilentProgress
from edgeloop_converters.calibration import Ranges
from edgeloop_converters.passes.codes import Refinement
from edgeloop_converters.passes.objective import OutputError
from edgeloop_converters.passes.packed import PackedModel
from edgeloop_converters.passes.range_search import FACTORS, search_ranges
from edgeloop_converters.passes.report import PassReport
from edgeloop_converters.passes.rounding import round_weights
from edgeloop_converters.passes.softmax_floor import floor_softmax_inputs

Array = npt.NDArray[Any]
Samples = Sequence[Sequence[Array]]

FEWEST_SAMPLES = 20
HELD_OUT_SHARE = 8
"""One sample in so many judges."""


@dataclass(frozen=True)
class Effort:
    """How much may be spent: seconds in all, samples that the passes see and samples that judge, rows per layer."""

    budget_s: float
    fit_samples: int
    judge_samples: int
    rows: int


EFFORTS = {"default": Effort(30.0, 128, 64, 20_000), "best": Effort(90.0, 512, 128, 60_000)}


@dataclass(frozen=True)
class _Pass:
    """apply: changes a model in place. visible_only: how its result is judged, see OutputError."""

    apply: Callable[[PackedModel], PassReport]
    visible_only: bool = False


@dataclass(frozen=True)
class Refined:
    """tflite: the model with the refinement in it; the very bytes that came in where nothing helped."""

    tflite: bytes
    refinement: Refinement


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
    """Range search, weight rounding with bias correction, softmax floor, on a model packed as int8 from `ranges`.

    samples: float model inputs, one array per input, as calibration saw them; at least 20, or nothing is done. They
    are split into what the passes see and what judges them. Measured with the kernels that XNNPACK gives on this host.
    """
    chosen = EFFORTS[effort]
    deadline = time.monotonic() + (chosen.budget_s if budget_s is None else budget_s)
    if len(samples) < FEWEST_SAMPLES:
        report = PassReport("refinement", f"{len(samples)} samples are too few to judge by", 0.0, accepted=False)
        return Refined(packed, Refinement(ranges, reports=(report,)))
    fit, held_out = _split(samples, chosen, seed)
    try:
        return _run(float_model, packed, ranges, fit, held_out, chosen, seed, threads, deadline, progress)
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
    held_out: Samples,
    chosen: Effort,
    seed: int,
    threads: int,
    deadline: float,
    progress: Progress | None,
) -> Refined:
    current = PackedModel(float_model, packed, ranges)
    if not current.groups:
        report = PassReport("refinement", "no int8 activations whose range is free", 0.0, accepted=False)
        return Refined(packed, Refinement(ranges, reports=(report,)))
    judges = {v: OutputError(float_model, held_out, threads, visible_only=v, typical=True) for v in (False, True)}
    reports = []
    for run in _passes(float_model, fit, chosen, seed, threads, deadline, progress or SilentProgress()):
        judge = judges[run.visible_only]
        candidate = current.copy()
        before = judge.of(current)
        report = run.apply(candidate)
        after = judge.of(candidate)
        accepted = after < before
        reports.append(_judged(report, before, after, accepted))
        if accepted:
            current = candidate
    if not any(r.accepted for r in reports):
        return Refined(packed, Refinement(ranges, reports=tuple(reports)))
    return Refined(
        current.write(),
        Refinement(replace(ranges, tensors=current.ranges), current.weights, current.biases, tuple(reports)),
    )


def _passes(
    float_model: bytes,
    fit: Samples,
    effort: Effort,
    seed: int,
    threads: int,
    deadline: float,
    progress: Progress,
) -> tuple[_Pass, ...]:
    # Rounding comes second and needs its share of the time.
    search_until = time.monotonic() + 0.65 * (deadline - time.monotonic())

    def search(candidate: PackedModel) -> PassReport:
        count = _affordable(float_model, candidate, fit, search_until - time.monotonic(), threads)
        error = OutputError(float_model, fit[:count], threads, typical=True)
        return search_ranges(candidate, error, deadline_s=search_until, progress=progress)

    def rounding(candidate: PackedModel) -> PassReport:
        return round_weights(candidate, fit, rows=effort.rows, seed=seed, deadline_s=deadline, progress=progress)

    def floor(candidate: PackedModel) -> PassReport:
        return floor_softmax_inputs(candidate, fit, threads)

    return (_Pass(search), _Pass(rounding), _Pass(floor, visible_only=True))


def _affordable(float_model: bytes, model: PackedModel, fit: Samples, seconds: float, threads: int) -> int:
    """How many samples a candidate may be judged by, so that every range gets its turn."""
    few, more = fit[:4], fit[:16]
    fixed = _fastest(OutputError(float_model, few, threads), model)
    each = max(0.0, _fastest(OutputError(float_model, more, threads), model) - fixed) / max(1, len(more) - len(few))
    fixed = max(0.0, fixed - each * len(few))  # writing and opening the candidate
    candidates = 1 + sum(len(FACTORS) * (2 if model.range_of(g)[0] < 0 else 1) for g in model.groups)
    affordable = (seconds / candidates - fixed) / max(1e-9, each)
    return int(np.clip(affordable, min(16, len(fit)), len(fit)))


def _fastest(error: OutputError, model: PackedModel) -> float:
    """Seconds of one evaluation, the best of three: other work on the host must not decide how much is looked at."""
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        error.of(model)
        seconds.append(time.monotonic() - started)
    return min(seconds)


def _judged(report: PassReport, before: float, after: float, accepted: bool) -> PassReport:
    return replace(
        report,
        before={**report.before, "held_out_error": before},
        after={**report.after, "held_out_error": after},
        accepted=accepted,
    )


def _split(samples: Samples, effort: Effort, seed: int) -> tuple[Samples, Samples]:
    """(seen by the passes, held out), in random order: samples often come sorted by class."""
    order = np.random.default_rng(seed).permutation(len(samples))
    held_out = min(effort.judge_samples, max(4, len(samples) // HELD_OUT_SHARE))
    fit = order[held_out : held_out + effort.fit_samples]
    return [samples[i] for i in fit], [samples[i] for i in order[:held_out]]
