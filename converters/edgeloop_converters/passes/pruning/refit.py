"""Layers of a narrowed model get new weights, so that they answer as they did: least squares in order, no labels.

Per layer, with rows X of its input in the narrowed model, and Y of what the whole model computed there: the W that
makes X W closest to Y, held to the old weights by a ridge. Three things make it more than that:
- Layers are done in order, with X as the earlier ones left it, so that later layers make good what earlier ones lost
  (He et al. 2017, "Channel Pruning for Accelerating Very Deep Neural Networks").
- What is added to the layer's output (a shortcut) belongs to the target; two convolutions that meet in an addition are
  solved as one.
- Where a ReLU follows, only what it lets through counts: targets below it move to where the layer is, as long as that
  is below, too, and the problem is solved again (majorization; relative: Zhang et al. 2015).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.graph import Graph, Op
from edgeloop.progress import Progress, SilentProgress
from edgeloop_converters.passes.patches import LayerRows, as_rows, as_tensor
from edgeloop_converters.passes.pruning.answers import refit_answers
from edgeloop_converters.passes.pruning.consumers import LINEAR, data_of, matrix_of, put_bias, put_matrix
from edgeloop_converters.passes.pruning.pairs import Pair, find_pair, nearest_goal, refine
from edgeloop_converters.passes.pruning.seen import Samples, blas_threads, with_ones
from edgeloop_converters.passes.pruning.units import Bounds, Unit, find_units
from edgeloop_converters.passes.pruning.walk import Walk, changed_tensors

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

ROWS = 25_000
RIDGE = 1e-4
_ROUNDS, _LEAST_GAIN = 12, 0.01
"""A round that lowers the error by less than this share is the last."""


def refit(
    original: Graph,
    narrowed: Graph,
    kept: Mapping[str, Sequence[int]],
    samples: Samples,
    *,
    rows: int = ROWS,
    seed: int = 0,
    threads: int = 1,
    pairs: bool = True,
    progress: Progress | None = None,
    whole: Whole | None = None,
    rounds: int = _ROUNDS,
) -> tuple[Graph, int]:
    """A graph of its own with new weights, and how many layers got some.

    kept: name of a tensor -> positions of its channels in `original`; those not named are whole. Layers are found in
    both graphs by the name of their output; those whose input is what it was stay as they are. pairs: two layers with
    an activation between them are then fitted together (`pairs`), and a classifier's last layer to the whole model's
    probabilities (`answers`): better, and slower. whole: of `original` and these
    samples, for several refits to share. rounds: of each problem, at most.
    """
    graph = own_constants(narrowed)
    twins = {original.main.tensors[op.outputs[0]].name: op for op in original.main.ops if op.outputs}
    work = [u for u in find_units(graph) if all(_name(graph, op) in twins for op in u.ops)]
    changed = changed_tensors(original, graph)
    names = [tensor.name for tensor in graph.main.tensors]
    work = [
        u for u in work
        if any(names[op.inputs[0]] in changed for op in u.ops) or (u.added is not None and names[u.added] in changed)
    ]  # fmt: skip
    shared = whole or Whole(original, samples, threads)
    job = _Job(shared, graph, twins, kept, seed, shared.walk.fork(graph), rounds)
    shown = progress or SilentProgress()
    with blas_threads(threads), shown.step("refitting layers", total=len(work)) as advance:
        for unit in work:
            _solve_unit(job, unit, rows)
            for op in unit.ops:
                job.walk.forget(_name(graph, op))
            for pair in (find_pair(graph, op) for op in unit.ops) if pairs else ():
                if pair is not None:
                    _refine_pair(job, unit, pair)
            advance(1)
        if work and pairs:
            refit_answers(shared.walk, job.walk, graph, len(samples))
    return graph, sum(len(unit.ops) for unit in work)


def own_constants(graph: Graph) -> Graph:
    """A copy in which no two layers share weights or bias."""
    fresh = graph.copy()
    seen = set[int]()
    for op in fresh.main.ops:
        for position, index in enumerate(op.inputs):
            if index < 0 or not fresh.main.tensors[index].is_constant:
                continue
            if index in seen and op.name in (*LINEAR, "DEPTHWISE_CONV_2D"):
                tensor = fresh.copy().main.tensors[index]
                tensor.name = f"{tensor.name}/{len(fresh.main.tensors)}"
                op.inputs[position] = fresh.main.add_tensor(tensor)
            seen.add(index)
    return fresh


def _name(graph: Graph, op: Op) -> str:
    return graph.main.tensors[op.outputs[0]].name


def _solve_unit(job: _Job, unit: Unit, rows: int) -> None:
    seen = _look(job, unit, rows)
    if unit.ops[0].name == "DEPTHWISE_CONV_2D":
        _solve_depthwise(job, unit, seen)
        return
    matrices = [matrix_of(job.graph, op) for op in unit.ops]
    weights = np.concatenate([matrices[0], *(m[:-1] for m in matrices[1:])])
    joined = np.concatenate([with_ones(seen.now[0]), *seen.now[1:]], axis=1)
    offset = seen.offset + np.asarray(sum(m[-1] for m in matrices[1:]), np.float32)
    solved = solve(joined, seen.wanted - offset, weights, unit.bounds, offset, job.rounds)
    at = len(matrices[0])
    put_matrix(job.graph, unit.ops[0], solved[:at])
    for op, matrix in zip(unit.ops[1:], matrices[1:], strict=True):
        put_matrix(job.graph, op, np.concatenate([solved[at : at + len(matrix) - 1], matrix[-1:]]))
        at += len(matrix) - 1


def _refine_pair(job: _Job, unit: Unit, pair: Pair) -> None:
    """The layer before `pair.second`, which nothing else reads, and that one: together, at fewer places."""
    rows = pair.rows
    seen = _look(job, unit, rows)
    at = next(i for i, op in enumerate(unit.ops) if op is pair.second)
    offset = seen.offset + sum(
        (_apply(job.graph, op, x) for i, (op, x) in enumerate(zip(unit.ops, seen.now, strict=True)) if i != at),
        np.zeros((1, 1), np.float32),
    )
    places = LayerRows(job.graph, unit.ops[0], len(job.whole.samples), rows, job.seed)
    source = job.graph.main.tensors[pair.first.inputs[0]].name
    patches = [pair.patches(found[0][0], places.positions()) for found in job.walk.values([source])]
    better = refine(
        np.concatenate([p for p, _ in patches]), np.concatenate([inside for _, inside in patches]),
        (matrix_of(job.graph, pair.first), matrix_of(job.graph, pair.second)), pair.bounds, seen.wanted, offset,
        unit.bounds,
    )  # fmt: skip
    if better is not None:
        put_matrix(job.graph, pair.first, better[0])
        put_matrix(job.graph, pair.second, better[1])
        job.walk.forget(_name(job.graph, pair.first))


class Whole:
    """The model as it was, over the samples: what its layers compute, looked at once for all who are refitted to it."""

    def __init__(self, graph: Graph, samples: Samples, threads: int = 1) -> None:
        self.graph, self.samples = graph, samples
        self.walk = Walk(graph, samples, threads)
        self._sums: dict[tuple[Any, ...], Floats] = {}

    def sums(self, ops: Sequence[Op], added: str | None, rows: int, seed: int) -> Floats:
        """[rows, outputs] What these layers and the tensor `added` come to, at random places."""
        key = (tuple(_name(self.graph, op) for op in ops), added, rows, seed)
        if key not in self._sums:
            seen = _Rows(self.graph, ops, added, len(self.samples), rows, seed).collect(self.walk)
            total = sum((_apply(self.graph, op, x) for op, x in zip(ops, seen.inputs, strict=True)), np.float32(0))
            self._sums[key] = np.asarray(total if seen.added is None else total + seen.added, np.float32)
        return self._sums[key]


@dataclass(frozen=True)
class _Job:
    """twins: name of a layer's output -> that layer of the whole model. walk: of `graph`."""

    whole: Whole
    graph: Graph
    twins: Mapping[str, Op]
    kept: Mapping[str, Sequence[int]]
    seed: int
    walk: Walk
    rounds: int


@dataclass(frozen=True)
class _Look:
    """At the same random places in both models. now: per layer of a unit the rows of its input. wanted [rows, outputs]:
    the sum as the whole model has it, in the channels that stay. offset: what comes on top now.
    """

    now: list[Floats]
    wanted: Floats
    offset: Floats


def _look(job: _Job, unit: Unit, rows: int) -> _Look:
    twins = [job.twins[_name(job.graph, op)] for op in unit.ops]
    added = None if unit.added is None else job.graph.main.tensors[unit.added].name
    now = _Rows(job.graph, unit.ops, added, len(job.whole.samples), rows, job.seed).collect(job.walk)
    outputs = list(job.kept.get(_name(job.graph, unit.ops[0]), range(_width(job.whole.graph, twins[0]))))
    wanted = job.whole.sums(twins, added, rows, job.seed)[:, outputs]
    offset = np.zeros((1, len(outputs)), np.float32) if now.added is None else now.added
    return _Look(now.inputs, wanted, offset)


def solve(
    rows: Floats, wanted: Floats, weights: Doubles, bounds: Bounds, offset: Array, rounds: int = _ROUNDS
) -> Doubles:
    """W [columns, outputs], starting at `weights`: clip(rows W + offset) close to clip(wanted + offset)."""
    low, high = bounds[0] - offset, bounds[1] - offset
    moments = (rows.T @ rows).astype(np.float64)
    ridge = RIDGE * max(float(np.trace(moments)) / len(moments), 1e-12)
    inverse = np.linalg.inv(moments + ridge * np.eye(len(moments)))
    first = rows @ weights.astype(np.float32)
    found, got, before = weights, first, np.inf
    for _ in range(rounds if np.isfinite(bounds[0]) else 1):
        goal = nearest_goal(got, wanted, low, high)
        error = float(np.square(goal - got).mean())
        if error > before * (1 - _LEAST_GAIN):
            break
        before = error
        found = weights + inverse @ (rows.T @ (goal - first).astype(np.float32)).astype(np.float64)
        got = rows @ found.astype(np.float32)
    return found


def _solve_depthwise(job: _Job, unit: Unit, seen: _Look) -> None:
    """Every channel is a problem of its own, [rows, taps + 1]."""
    op = unit.ops[0]
    taps = as_rows(op, data_of(job.graph.constant(op, 1))).astype(np.float64)
    bias = _bias(job.graph, op)
    solved = np.empty((len(taps), taps.shape[1] + 1))
    for c in range(len(taps)):
        offset = seen.offset[:, c : c + 1]
        start = np.concatenate([taps[c], bias[c : c + 1]])[:, None]
        rows = with_ones(np.ascontiguousarray(seen.now[0][:, :, c]))
        solved[c] = solve(rows, seen.wanted[:, c : c + 1] - offset, start, unit.bounds, offset, job.rounds)[:, 0]
    weight = job.graph.constant(op, 1)
    assert weight is not None
    weight.data = np.ascontiguousarray(as_tensor(op, solved[:, :-1], weight.shape), np.float32)
    put_bias(job.graph, op, solved[:, -1])


def _bias(graph: Graph, op: Op) -> Doubles:
    bias = graph.constant(op, 2)
    return np.zeros(_width(graph, op)) if bias is None else data_of(bias).astype(np.float64)


def _width(graph: Graph, op: Op) -> int:
    return int(graph.main.tensors[op.outputs[0]].shape[-1])


def _apply(graph: Graph, op: Op, rows: Floats) -> Floats:
    """A layer's output before its activation. rows: [rows, columns], of a depthwise layer [rows, taps, channels]."""
    if op.name == "DEPTHWISE_CONV_2D":
        taps = as_rows(op, data_of(graph.constant(op, 1)))
        return np.asarray(np.einsum("rkc,ck->rc", rows, taps) + _bias(graph, op), np.float32)
    matrix = matrix_of(graph, op).astype(np.float32)
    return np.asarray(rows @ matrix[:-1] + matrix[-1])


@dataclass(frozen=True)
class _Seen:
    """inputs: per layer its rows. added: rows of the tensor that comes on top, [rows, channels]."""

    inputs: list[Floats]
    added: Floats | None


class _Rows:
    """Input rows of the layers of one unit, which have the same output positions."""

    def __init__(self, graph: Graph, ops: Sequence[Op], added: str | None, samples: int, rows: int, seed: int) -> None:
        self._graph, self._added = graph, added
        self._places = [LayerRows(graph, op, samples, rows, seed) for op in ops]
        self._sources = [graph.main.tensors[op.inputs[0]].name for op in ops]

    def collect(self, walk: Walk) -> _Seen:
        names = list(dict.fromkeys([*self._sources, *([self._added] if self._added else [])]))
        inputs: list[list[Floats]] = [[] for _ in self._places]
        added: list[Floats] = []
        for found in walk.values(names):
            by_name = dict(zip(names, found, strict=True))
            where = self._places[0].positions()
            for rows, place, source in zip(inputs, self._places, self._sources, strict=True):
                rows.append(place.rows(by_name[source], where))
            if self._added:
                flat = by_name[self._added].reshape(-1, by_name[self._added].shape[-1])
                added.append(flat[where] if where.size else flat)
        return _Seen([np.concatenate(rows) for rows in inputs], np.concatenate(added) if added else None)
