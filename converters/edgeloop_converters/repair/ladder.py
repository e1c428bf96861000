"""From rung to rung, on a file that missed its goals: what helps on the validation samples stays, all is recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from edgeloop.bench import BenchRequest, bench_models
from edgeloop.contract import OutputSpec
from edgeloop.errors import EdgeloopError
from edgeloop.graph import Graph
from edgeloop.progress import Progress
from edgeloop_converters.goals import Goals
from edgeloop_converters.passes.equalization import equalize
from edgeloop_converters.passes.packed import PackedModel
from edgeloop_converters.repair.constants import (
    Fitting,
    corrected_biases,
    opened,
    other_ranges,
    ranges_of,
    rounded_weights,
)
from edgeloop_converters.repair.judge import Judge
from edgeloop_converters.repair.plan import (
    BUDGETS,
    Aim,
    Situation,
    is_worth_keeping,
    plan_rungs,
    units_of,
)
from edgeloop_converters.repair.records import (
    BIAS,
    EQUALIZATION,
    FIND,
    FLOAT_OPS,
    RANGES,
    ROUNDING,
    OpName,
    Repair,
    Suspect,
)
from edgeloop_converters.repair.samples import Material
from edgeloop_converters.repair.trials import Exhibit, Trials, move_ops, try_units

_BENCH_RUNS = 100
_NAMED = 3
_SHARES = {FIND: 0.25, EQUALIZATION: 0.3, RANGES: 0.4, BIAS: 0.45, ROUNDING: 0.6, FLOAT_OPS: 1.0}
"""Of the budget: when each must be done, so that the next has time."""

_CONSTANTS: Mapping[str, Callable[[PackedModel, Fitting, tuple[Suspect, ...]], str]] = {
    RANGES: lambda model, fitting, suspects: other_ranges(model, fitting, [s.op.output for s in suspects]),
    BIAS: lambda model, fitting, suspects: corrected_biases(model, fitting),
    ROUNDING: lambda model, fitting, suspects: rounded_weights(model, fitting),
}


@dataclass(frozen=True)
class Case:
    """A file that missed its goals. keep_io: outputs stay codes."""

    model: bytes
    float_model: bytes
    goals: Goals
    output: OutputSpec
    situation: Situation
    effort: str
    seed: int = 0
    missed: tuple[str, ...] = ()
    keep_io: bool = False


@dataclass(frozen=True)
class Repaired:
    """model: the very bytes that came in where nothing was kept.

    noisiest: ops with the lowest signal-to-noise ratio in dB at their output, for where no op is a suspect by itself.
    float_model: the one that the file's inner tensors stand for, where a rung scaled them; else None.
    """

    model: bytes
    repairs: tuple[Repair, ...]
    suspects: tuple[Suspect, ...] = ()
    noisiest: tuple[tuple[OpName, float], ...] = ()
    float_model: bytes | None = None


def not_tried(why: str) -> tuple[Repair, ...]:
    """The record of a ladder that was left out."""
    return (Repair(FIND, why, tried=False),)


def climb(case: Case, material: Material, snr_db: Mapping[str, float], progress: Progress) -> Repaired:
    """Every rung that the plan allows, in order, until the goals hold on the validation samples by a margin.

    snr_db: of every op's output, by the tensor's name. Never raises for a rung that fails: that is recorded, and the
    next one is tried.
    """
    return _Climb(case, material, snr_db, progress).run()


class _Climb:
    def __init__(self, case: Case, material: Material, snr_db: Mapping[str, float], progress: Progress) -> None:
        self._case, self._snr_db, self._progress = case, snr_db, progress
        self._budget = BUDGETS[case.effort]
        self._started = time.monotonic()
        self._fit = Judge(case.float_model, material.fit, case.output, material.fit_labels)
        exhibit = Exhibit.of(case.model, case.float_model, keep_io=case.keep_io)
        units = units_of(exhibit.graph, exhibit.twins, tail_only=False, macs=exhibit.macs)
        count = self._budget.trial_samples_of(len(units), sum(exhibit.macs.values()))
        ids = material.fit_labels
        self._trial = Judge(case.float_model, material.fit[:count], case.output, None if ids is None else ids[:count])
        self._first = exhibit, units
        self._validation = Judge(case.float_model, material.validation, case.output, material.validation_labels)
        self._model, self._float_model = case.model, case.float_model
        self._score = self._validation.of(Graph.read(case.model))
        self._aim = Aim(case.goals, self._score)
        self._said = material.said
        self._repairs: list[Repair] = []
        self._found: Trials | None = None

    def run(self) -> Repaired:
        first, suspects = self._find()
        self._repairs.append(first)
        for rung, why_not in plan_rungs(self._case.situation).items():
            if not why_not and self._aim.is_reached(self._score):
                why_not = "the goals hold on the validation samples without it"
            if not why_not and time.monotonic() > self._until(1.0):
                why_not = f"the {self._budget.seconds:.0f} s that --effort {self._case.effort} allows are over"
            if why_not:
                self._repairs.append(Repair(rung, why_not, tried=False))
                continue
            try:
                if rung == FLOAT_OPS:
                    repair = self._float_ops()
                elif rung == EQUALIZATION:
                    repair = self._equalization()
                else:
                    repair = self._constants(rung, suspects)
            except (EdgeloopError, RuntimeError, ValueError) as error:
                what = (str(error) or type(error).__name__).splitlines()[0][:200]
                repair = Repair(rung, f"gave up: {what}", before=self._score)
            self._repairs.append(repair)
        twin = self._float_model if self._float_model != self._case.float_model else None
        return Repaired(self._model, tuple(self._repairs), suspects, self._noisiest(), twin)

    def _noisiest(self) -> tuple[tuple[OpName, float], ...]:
        exhibit, _ = self._first
        names = [exhibit.name(index) for index in exhibit.twins]
        known = [(name, self._snr_db[name.output]) for name in names if name.output in self._snr_db]
        return tuple(sorted(known, key=lambda item: item[1])[:_NAMED])

    def _until(self, share: float) -> float:
        return self._started + share * self._budget.seconds

    def _trials(self, until: float) -> tuple[Exhibit, Trials]:
        """Of the model as it is now: those of the first rung where nothing has changed since."""
        if self._model == self._case.model and not self._case.situation.is_edgetpu and self._found is not None:
            return self._first[0], self._found
        exhibit = Exhibit.of(self._model, self._float_model, keep_io=self._case.keep_io)
        tail_only = self._case.situation.is_edgetpu
        units = units_of(exhibit.graph, exhibit.twins, tail_only=tail_only, macs=exhibit.macs)
        return exhibit, try_units(exhibit, units, self._trial, until, self._progress)

    def _find(self) -> tuple[Repair, tuple[Suspect, ...]]:
        """The guilty ops, whether or not the target lets them move."""
        began = time.monotonic()
        exhibit = Exhibit.of(self._model, self._case.float_model, keep_io=self._case.keep_io)
        units = units_of(exhibit.graph, exhibit.twins, tail_only=False, macs=exhibit.macs)
        trials = try_units(exhibit, units, self._trial, self._until(_SHARES[FIND]), self._progress)
        suspects = trials.suspects(exhibit, self._snr_db)
        left = f", {trials.left} not tried for want of time" if trials.left else ""
        detail = (
            f"{len(trials.scores)} trials of ops in float on {trials.before.samples} calibration samples{left}; that a "
            f"repair is needed was seen on the evaluation data ({'; '.join(self._case.missed)}), every choice is made "
            f"on {self._said}"
        )
        seconds = time.monotonic() - began
        return Repair(FIND, detail, before=self._score, suspects=suspects, seconds=seconds), suspects

    def _equalization(self) -> Repair:
        began = time.monotonic()
        ranges = ranges_of(Graph.read(self._model))
        found = equalize(self._float_model, self._model, ranges, self._fit.samples)
        if not found.report.accepted:
            return Repair(EQUALIZATION, found.report.detail, before=self._score, seconds=time.monotonic() - began)
        repair = self._judged(Repair(EQUALIZATION, found.report.detail), Graph.read(found.packed), began)
        if repair.accepted:
            self._float_model = found.float_model
        return repair

    def _constants(self, rung: str, suspects: tuple[Suspect, ...]) -> Repair:
        began = time.monotonic()
        model = opened(self._float_model, self._model)
        if not model.groups:
            return Repair(rung, "no int8 activations whose range is free", tried=False)
        until = self._until(_SHARES[rung])
        fitting = Fitting(self._float_model, self._fit, until, self._case.seed, self._budget.methods, self._progress)
        detail = _CONSTANTS[rung](model, fitting, suspects[: self._budget.searched])
        return self._judged(Repair(rung, detail), model.graph, began)

    def _float_ops(self) -> Repair:
        began = time.monotonic()
        tail_only = self._case.situation.is_edgetpu
        rest = self._until(1.0) - time.monotonic()
        exhibit, trials = self._trials(time.monotonic() + rest / 2)
        if not trials.scores:
            why = "no op of this model can be moved"
            if tail_only:
                why = (
                    "the Edge TPU takes nothing behind a float op, and no end of this model is small enough to leave it"
                )
            return Repair(FLOAT_OPS, why, tried=False)
        moved = move_ops(
            exhibit, trials, self._fit, self._validation, self._aim.is_reached, self._until(1.0),
            most_bytes=self._case.goals.max_bytes, prune=not tail_only,
        )  # fmt: skip
        if not moved.ops:
            return Repair(FLOAT_OPS, "no ops help in float", before=self._score, after=self._score,
                          seconds=time.monotonic() - began)  # fmt: skip
        ops = tuple(exhibit.name(i) for i in sorted(moved.ops))
        share = sum(exhibit.macs[i] for i in moved.ops) / max(1, sum(exhibit.macs.values()))
        weights = ", their weights stay int8" if moved.keep_weights else ""
        where = ", all behind the last mapped op" if tail_only else ""
        detail = (
            f"{len(ops)} of {len(exhibit.twins)} ops ({share:.0%} of the multiply-accumulates) in float{weights}{where}"
        )
        before = self._model
        repair = Repair(FLOAT_OPS, detail, ops=ops)
        repair = self._judged(repair, exhibit.with_float(moved.ops, keep_weights=moved.keep_weights), began)
        return replace(repair, latency_ratio=_latency_ratio(before, self._model)) if repair.accepted else repair

    def _judged(self, repair: Repair, candidate: Graph, began: float) -> Repair:
        """The rung's record; the candidate is the model from now on where it is better."""
        before, after = self._score, self._validation.of(candidate)
        written, size = candidate.write(), len(self._model)
        accepted = is_worth_keeping(before, after, free=repair.name != FLOAT_OPS)
        if accepted:
            self._model, self._score = written, after
        return replace(
            repair, accepted=accepted, before=before, after=after, bytes_before=size, bytes_after=len(written),
            seconds=time.monotonic() - began,
        )  # fmt: skip


def _latency_ratio(before: bytes, after: bytes) -> float | None:
    try:
        results = bench_models({"before": before, "after": after}, BenchRequest(n=_BENCH_RUNS)).results
    except EdgeloopError:
        return None
    return results[1].p50_ms / results[0].p50_ms if len(results) == 2 and results[0].p50_ms > 0 else None


def blame(repaired: Repaired) -> str:
    """For a refusal: the ops, counted as in the file that came out, and their numbers, in one line."""
    places = {} if not repaired.model else _places(Graph.read(repaired.model))
    if repaired.suspects:
        count = repaired.suspects[0].before.samples
        every = "; ".join(suspect.text(places) for suspect in repaired.suspects[:_NAMED])
        return f"{every} (each by itself in the file before them, on {count} calibration samples)"
    noisy = ", ".join(f"{name.text(places)} {snr:.1f} dB" for name, snr in repaired.noisiest)
    return f"no op by itself is to blame, in float alone none helps; the noisiest outputs: {noisy or 'not known'}"


def _places(graph: Graph) -> dict[str, int]:
    """Name of an op's first output -> the op's number."""
    tensors = graph.main.tensors
    return {tensors[op.outputs[0]].name: index for index, op in enumerate(graph.main.ops) if op.outputs}
