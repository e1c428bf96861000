"""Trials of ops in float: who is guilty, and which smallest set of them makes the answers right."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgeloop.analysis.macs import MacCounter
from edgeloop.errors import EdgeloopError
from edgeloop.graph import Graph, Op
from edgeloop.progress import Progress
from edgeloop_converters.repair.judge import Judge
from edgeloop_converters.repair.plan import Unit, cost_of, may_move, worth
from edgeloop_converters.repair.records import OpName, Score, Suspect
from edgeloop_converters.repair.restore import find_twins, restore

MOST_SUSPECTS = 8
_LOOK_AGAIN = 6
_LEAST_GAIN = 0.3
"""`worth` of a suspect: 3 % fewer flips or error."""
_MATTERS = 1.1
"""An op that is needless in float raises the error by less than this factor when it returns to int8."""
_MOST_STEPS = 12


@dataclass(frozen=True)
class Exhibit:
    """The quantized model under trial. twins: its ops that can be moved -> their float ops; macs by the same index."""

    graph: Graph
    float_graph: Graph
    twins: Mapping[int, Op]
    macs: Mapping[int, int]
    keep_io: bool

    @classmethod
    def of(cls, model: bytes, float_model: bytes, *, keep_io: bool) -> Exhibit:
        graph, float_graph = Graph.read(model), Graph.read(float_model)
        twins, counter = find_twins(float_graph, graph), MacCounter(float_graph)
        macs = {index: counter.op(op, float_graph.main) for index, op in twins.items()}
        return cls(graph, float_graph, twins, macs, keep_io)

    def with_float(self, ops: frozenset[int], *, keep_weights: bool = False) -> Graph:
        return restore(self.graph, self.float_graph, ops, keep_weights=keep_weights, keep_io=self.keep_io)

    def name(self, index: int) -> OpName:
        op = self.graph.main.ops[index]
        return OpName(index, op.name, self.graph.main.tensors[op.outputs[0]].name)


@dataclass(frozen=True)
class Trials:
    """before: the model as it is. scores: of every unit that there was time for. left: units without."""

    before: Score
    scores: Mapping[Unit, Score]
    left: int = 0

    def suspects(self, exhibit: Exhibit, snr_db: Mapping[str, float]) -> tuple[Suspect, ...]:
        """Ops that make the answers better in float, alone or with their readers, worst first. snr_db: by output."""
        found: dict[int, tuple[float, Suspect]] = {}
        for unit, score in self.scores.items():
            if unit.anchor < 0:
                continue
            # Only half as suspicious where it takes the readers, too: they may be the culprits themselves.
            gain = worth(self.before, score, 0.0) / (1 if len(unit.ops) == 1 else 2)
            op = exhibit.name(unit.anchor)
            suspect = Suspect(op, snr_db.get(op.output), self.before, score, len(unit.ops) > 1)
            if gain > found.get(unit.anchor, (_LEAST_GAIN, suspect))[0]:
                found[unit.anchor] = (gain, suspect)
        ranked = sorted(found.values(), key=lambda item: -item[0])
        return tuple(suspect for _, suspect in ranked[:MOST_SUSPECTS]) or self._stretch(exhibit)

    def _stretch(self, exhibit: Exhibit) -> tuple[Suspect, ...]:
        """Where no single op is to blame: the stretch of ops that gains most."""
        stretches = {u: worth(self.before, s, 0.0) for u, s in self.scores.items() if u.anchor < 0}
        best = max(stretches, key=lambda u: stretches[u], default=None)
        if best is None or stretches[best] < _LEAST_GAIN:
            return ()
        first, last = exhibit.name(min(best.ops)), exhibit.name(max(best.ops))
        return (Suspect(first, None, self.before, self.scores[best], last=last),)


def try_units(exhibit: Exhibit, units: Sequence[Unit], judge: Judge, until: float, progress: Progress) -> Trials:
    """One unit after the other in float, on the judge's samples. until: on time.monotonic()."""
    before, tried = judge.of(exhibit.graph), 0
    scores: dict[Unit, Score] = {}
    with progress.step("trying ops in float", total=len(units)) as advance:
        for unit in units:
            if time.monotonic() > until:
                break
            with contextlib.suppress(EdgeloopError):  # what the runtime cannot load is no way out
                scores[unit] = judge.of(exhibit.with_float(unit.ops))
            tried += 1
            advance(1)
    return Trials(before, scores, len(units) - tried)


@dataclass(frozen=True)
class Moved:
    """ops in float (of the exhibit's graph) and how they score on the samples that choose; none: nothing helped."""

    ops: frozenset[int]
    score: Score
    keep_weights: bool = False


def move_ops(
    exhibit: Exhibit,
    trials: Trials,
    fit: Judge,
    validation: Judge,
    is_reached: Callable[[Score], bool],
    until: float,
    *,
    most_bytes: int | None = None,
    prune: bool = True,
) -> Moved:
    """Greedily the unit that gains most for its latency, until `is_reached` on the validation samples; then back: ops
    without which the aim holds and the error is the same return to int8 (`prune`), and weights that may stay int8 do,
    which saves their bytes. Dropping all that the counted answers allow would fit them to these samples.
    """
    start = best = Moved(frozenset(), validation.of(exhibit.graph))
    current, now = frozenset[int](), trials.before
    worths = {u: worth(trials.before, s, cost_of(u.ops, exhibit.macs)) for u, s in trials.scores.items()}
    for _ in range(_MOST_STEPS):
        open_units = [u for u in worths if not u.ops <= current and may_move(current | u.ops, exhibit.macs)]
        nearby = _first_looks(open_units, current, worths)
        found = _best_next(exhibit, current, now, nearby, trials, fit, until)
        if found is None:
            break
        first, (current, now) = not current, found
        if first:  # scored by the trials' few samples
            now = fit.of(exhibit.with_float(current))
        moved = Moved(current, validation.of(exhibit.with_float(current)))
        moved = _within(exhibit, moved, validation, most_bytes) or moved
        if moved.score.is_better_than(best.score) and _fits(exhibit, moved, most_bytes):
            best = moved
        if is_reached(moved.score) and _fits(exhibit, moved, most_bytes):
            moved = _lengthened(exhibit, moved, validation, until)
            return _pruned(exhibit, moved, validation, is_reached, until if prune else 0.0)
    return best if best.score.is_better_than(start.score) else start


def _first_looks(units: Sequence[Unit], current: frozenset[int], worths: Mapping[Unit, float]) -> list[Unit]:
    """In the order in which they are looked at: what lengthens a stretch, which may gain although it did not alone;
    what gained most by itself; the others.
    """
    ranked = sorted(units, key=lambda u: (u.last_resort, -worths[u]))
    beside = {i + step for i in current for step in (-1, 1)} | current
    longer = sorted((u for u in units if u.ops & beside and not u.last_resort), key=lambda u: len(u.ops - current))
    return list(dict.fromkeys([*longer[:_LOOK_AGAIN], *ranked]))


def _best_next(
    exhibit: Exhibit,
    current: frozenset[int],
    now: Score,
    units: Sequence[Unit],
    trials: Trials,
    fit: Judge,
    until: float,
) -> tuple[frozenset[int], Score] | None:
    best, found = 0.0, None
    for number, unit in enumerate(units):
        if time.monotonic() > until or (found is not None and number >= 2 * _LOOK_AGAIN):
            break
        ops = current | unit.ops
        score = fit.of(exhibit.with_float(ops)) if current else trials.scores[unit]
        gain = worth(now, score, max(0.0, cost_of(ops, exhibit.macs) - cost_of(current, exhibit.macs)))
        if gain > best:
            best, found = gain, (ops, score)
    return found


def _lengthened(exhibit: Exhibit, moved: Moved, validation: Judge, until: float) -> Moved:
    """With ops without multiplications right beside those in float, which cost nothing there, where they do no harm."""
    beside = {i + step for i in moved.ops for step in (-1, 1)} - moved.ops
    for op in sorted(i for i in beside if i in exhibit.twins and not exhibit.macs[i]):
        if time.monotonic() > until:
            break
        more = moved.ops | {op}
        score = validation.of(exhibit.with_float(more, keep_weights=moved.keep_weights))
        if score.loss <= moved.score.loss:
            moved = Moved(more, score, moved.keep_weights)
    return moved


def _pruned(
    exhibit: Exhibit, moved: Moved, validation: Judge, is_reached: Callable[[Score], bool], until: float
) -> Moved:
    for op in sorted((i for i in moved.ops if exhibit.macs[i]), key=lambda i: -exhibit.macs[i]):
        if time.monotonic() > until or len(moved.ops) == 1:
            break
        fewer = moved.ops - {op}
        score = validation.of(exhibit.with_float(fewer, keep_weights=moved.keep_weights))
        if is_reached(score) and score.error <= _MATTERS * moved.score.error:
            moved = Moved(fewer, score, moved.keep_weights)
    if not moved.keep_weights:
        lean = validation.of(exhibit.with_float(moved.ops, keep_weights=True))
        if is_reached(lean) and lean.error <= _MATTERS * moved.score.error:
            moved = Moved(moved.ops, lean, keep_weights=True)
    return moved


def _within(exhibit: Exhibit, moved: Moved, validation: Judge, most_bytes: int | None) -> Moved | None:
    """With int8 weights where float ones are too many bytes."""
    if _fits(exhibit, moved, most_bytes):
        return None
    return Moved(moved.ops, validation.of(exhibit.with_float(moved.ops, keep_weights=True)), keep_weights=True)


def _fits(exhibit: Exhibit, moved: Moved, most_bytes: int | None) -> bool:
    if most_bytes is None:
        return True
    return len(exhibit.with_float(moved.ops, keep_weights=moved.keep_weights).write()) <= most_bytes
