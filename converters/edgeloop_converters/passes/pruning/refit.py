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

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.graph import Graph, Op
from edgeloop.progress import Progress, SilentProgress
from edgeloop_converters.passes.patches import LayerRows, as_rows, as_tensor
from edgeloop_converters.passes.pruning.consumers import LINEAR, data_of, matrix_of, put_bias, put_matrix
from edgeloop_converters.passes.pruning.seen import Samples, values, with_ones

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Bounds = tuple[float, float]

ROWS = 25_000
RIDGE = 1e-4
_ROUNDS = 12
_BOUNDS: Mapping[int, Bounds] = {0: (-np.inf, np.inf), 1: (0.0, np.inf), 3: (0.0, 6.0)}
_ACTIVATIONS: Mapping[str, Bounds] = {"RELU": (0.0, np.inf), "RELU6": (0.0, 6.0)}
_MOST_COLUMNS = 6000


@dataclass(frozen=True)
class Unit:
    """Layers that are solved together: one, or two whose outputs are added and nothing else.

    goal: tensor after all of it. added: tensor that comes on top, or None. bounds: of the activation in between.
    """

    ops: tuple[Op, ...]
    goal: int
    added: int | None
    bounds: Bounds


def refit(
    original: Graph,
    narrowed: Graph,
    kept: Mapping[str, Sequence[int]],
    samples: Samples,
    *,
    rows: int = ROWS,
    seed: int = 0,
    threads: int = 1,
    progress: Progress | None = None,
) -> tuple[Graph, int]:
    """A graph of its own with new weights, and how many layers got some.

    kept: name of a tensor -> positions of its channels in `original`; those not named are whole. Layers are found in
    both graphs by the name of their output; those whose input is what it was stay as they are.
    """
    graph = own_constants(narrowed)
    twins = {original.main.tensors[op.outputs[0]].name: op for op in original.main.ops if op.outputs}
    work = [u for u in _units(graph) if all(_name(graph, op) in twins for op in u.ops)]
    changed = _changed(original, graph)
    work = [u for u in work if any(op.inputs[0] in changed for op in u.ops) or (u.added in changed)]
    with (progress or SilentProgress()).step("refitting layers", total=len(work)) as advance:
        for unit in work:
            pairs = [(op, twins[_name(graph, op)]) for op in unit.ops]
            _solve_unit(original, graph, unit, pairs, kept, samples, rows, seed, threads)
            advance(1)
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


def _changed(original: Graph, graph: Graph) -> set[int]:
    """Tensors that hold other values than before: narrower ones, those made from such, and those with another maker."""
    widths = {t.name: t.shape for t in original.main.tensors}
    inputs = {
        original.main.tensors[op.outputs[0]].name: [original.main.tensors[i].name for i in op.inputs if i >= 0]
        for op in original.main.ops
        if op.outputs
    }
    changed = set[int]()
    main = graph.main
    for op in main.ops:
        computed = [i for i in op.inputs if i >= 0 and not main.tensors[i].is_constant]
        before = inputs.get(_name(graph, op), [])
        moved = any(main.tensors[i].name not in before for i in computed)
        for index in op.outputs:
            tensor = main.tensors[index]
            if moved or any(i in changed for i in computed) or widths.get(tensor.name) != tensor.shape:
                changed.add(index)
    return changed


def _units(graph: Graph) -> list[Unit]:
    """In the order in which they can be solved."""
    main = graph.main
    uses = Counter(i for op in main.ops for i in op.inputs)
    uses.update(main.outputs)
    readers = {i: op for op in main.ops for i in op.inputs}
    makers = {op.outputs[0]: op for op in main.ops if op.outputs}
    found, done = list[Unit](), set[int]()
    for op in main.ops:
        if not _is_solvable(graph, op) or op.outputs[0] in done:
            continue
        out = op.outputs[0]
        bounds = _BOUNDS.get(op.option("fusedActivationFunction"))
        if bounds is None:
            continue
        unit = Unit((op,), out, None, bounds)
        reader = readers.get(out) if uses[out] == 1 else None
        if bounds == _BOUNDS[0] and reader is not None:
            if reader.name in _ACTIVATIONS:
                unit = Unit((op,), out, None, _ACTIVATIONS[reader.name])
            elif reader.name == "ADD" and reader.inputs[0] != reader.inputs[1]:
                unit = _joined(graph, op, reader, makers, uses) or unit
        done.update(o.outputs[0] for o in unit.ops)
        found.append(unit)
    order = {id(op): n for n, op in enumerate(main.ops)}
    return sorted(found, key=lambda u: max(order[id(op)] for op in u.ops))


def _joined(graph: Graph, op: Op, add: Op, makers: Mapping[int, Op], uses: Counter[int]) -> Unit | None:
    main = graph.main
    other = next(i for i in add.inputs if i != op.outputs[0])
    if main.tensors[other].is_constant or main.tensors[other].shape != main.tensors[op.outputs[0]].shape:
        return None
    bounds = _BOUNDS.get(add.option("fusedActivationFunction"))
    if bounds is None:
        return None
    maker = makers.get(other)
    both = (
        maker is not None
        and op.name in LINEAR
        and maker.name in LINEAR
        and uses[other] == 1
        and _is_solvable(graph, maker)
        and maker.option("fusedActivationFunction") == 0
    )
    if both and maker is not None:
        return Unit((op, maker), add.outputs[0], None, bounds)
    return Unit((op,), add.outputs[0], other, bounds)


def _is_solvable(graph: Graph, op: Op) -> bool:
    if op.name not in (*LINEAR, "DEPTHWISE_CONV_2D"):
        return False
    weight, source = graph.constant(op, 1), graph.main.tensors[op.inputs[0]]
    if weight is None or weight.dtype != "float32":
        return False
    if source.shape[:1] not in ((1,), ()) and op.name != "FULLY_CONNECTED":
        return False
    if op.name == "DEPTHWISE_CONV_2D":
        return op.option("depthMultiplier", 1) == 1 and source.shape[-1] == weight.shape[-1]
    if op.name == "CONV_2D" and source.shape[-1] != weight.shape[-1]:
        return False
    return int(np.prod(weight.shape[1:])) <= _MOST_COLUMNS


def _solve_unit(
    original: Graph,
    graph: Graph,
    unit: Unit,
    pairs: Sequence[tuple[Op, Op]],
    kept: Mapping[str, Sequence[int]],
    samples: Samples,
    rows: int,
    seed: int,
    threads: int,
) -> None:
    """Rows are at the same random places in both models."""
    added = None if unit.added is None else graph.main.tensors[unit.added].name
    was = _Rows(original, [twin for _, twin in pairs], added, len(samples), rows, seed)
    now = _Rows(graph, [op for op, _ in pairs], added, len(samples), rows, seed)
    before, after = was.collect(samples, threads), now.collect(samples, threads)
    outputs = list(kept.get(_name(graph, unit.ops[0]), range(_width(original, pairs[0][1]))))
    if unit.ops[0].name == "DEPTHWISE_CONV_2D":
        _solve_depthwise(original, graph, unit, pairs[0], before, after, outputs)
        return
    target = sum(_apply(original, twin, x) for (_, twin), x in zip(pairs, before.inputs, strict=True))
    joined = np.concatenate([with_ones(after.inputs[0]), *after.inputs[1:]], axis=1)
    matrices = [matrix_of(graph, op) for op in unit.ops]
    weights = np.concatenate([matrices[0], *(m[:-1] for m in matrices[1:])])
    offset = sum(m[-1] for m in matrices[1:]) + np.zeros(weights.shape[1])
    target = np.asarray(target)[:, outputs]
    if before.added is not None and after.added is not None:
        target = target + before.added[:, list(kept.get(added or "", range(before.added.shape[1])))]
        offset = offset + after.added
    solved = solve(joined, np.asarray(target - offset, np.float32), weights, unit.bounds, np.asarray(offset))
    at = 0
    for n, (op, matrix) in enumerate(zip(unit.ops, matrices, strict=True)):
        size = len(matrix) - (n > 0)
        put_matrix(
            graph, op, solved[at : at + size] if n == 0 else np.concatenate([solved[at : at + size], matrix[-1:]])
        )
        at += size


def solve(rows: Floats, wanted: Floats, weights: Doubles, bounds: Bounds, offset: Array) -> Doubles:
    """W [columns, outputs], starting at `weights`: clip(rows W + offset) close to clip(wanted + offset)."""
    low, high = bounds[0] - offset, bounds[1] - offset
    moments = (rows.T @ rows).astype(np.float64)
    ridge = RIDGE * max(float(np.trace(moments)) / len(moments), 1e-12)
    inverse = np.linalg.inv(moments + ridge * np.eye(len(moments)))
    first = rows @ weights.astype(np.float32)
    found, got = weights, first
    for _ in range(_ROUNDS if np.isfinite(bounds[0]) else 1):
        goal = np.where((wanted <= low) & (got <= low), got, np.where((wanted >= high) & (got >= high), got, wanted))
        # Beyond the border, the border itself is as good as what lay there.
        goal = np.where((wanted <= low) & (got > low), np.broadcast_to(low, got.shape), goal)
        goal = np.where((wanted >= high) & (got < high), np.broadcast_to(high, got.shape), goal)
        found = weights + inverse @ (rows.T @ (goal - first).astype(np.float32)).astype(np.float64)
        got = rows @ found.astype(np.float32)
    return found


def _solve_depthwise(
    original: Graph,
    graph: Graph,
    unit: Unit,
    pair: tuple[Op, Op],
    before: _Seen,
    after: _Seen,
    outputs: Sequence[int],
) -> None:
    """Every channel is a problem of its own, [rows, taps + 1]."""
    op, twin = pair
    taps = as_rows(op, data_of(graph.constant(op, 1))).astype(np.float64)
    old = as_rows(twin, data_of(original.constant(twin, 1))).astype(np.float64)[outputs]
    old_bias = _bias(original, twin)[outputs]
    bias = _bias(graph, op)
    solved = np.empty((len(taps), taps.shape[1] + 1))
    for c in range(len(taps)):
        wanted = before.inputs[0][:, :, outputs[c]] @ old[c].astype(np.float32) + np.float32(old_bias[c])
        offset = np.zeros((1,), np.float32)
        if before.added is not None and after.added is not None:
            offset = after.added[:, c : c + 1]
            wanted = wanted + before.added[:, outputs[c]] - offset[:, 0]
        start = np.concatenate([taps[c], bias[c : c + 1]])[:, None]
        rows = with_ones(np.ascontiguousarray(after.inputs[0][:, :, c]))
        solved[c] = solve(rows, wanted[:, None].astype(np.float32), start, unit.bounds, offset)[:, 0]
    weight = graph.constant(op, 1)
    assert weight is not None
    weight.data = np.ascontiguousarray(as_tensor(op, solved[:, :-1], weight.shape), np.float32)
    put_bias(graph, op, solved[:, -1])


def _bias(graph: Graph, op: Op) -> Doubles:
    bias = graph.constant(op, 2)
    return np.zeros(_width(graph, op)) if bias is None else data_of(bias).astype(np.float64)


def _width(graph: Graph, op: Op) -> int:
    return int(graph.main.tensors[op.outputs[0]].shape[-1])


def _apply(graph: Graph, op: Op, rows: Floats) -> Floats:
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

    def collect(self, samples: Samples, threads: int) -> _Seen:
        names = list(dict.fromkeys([*self._sources, *([self._added] if self._added else [])]))
        inputs: list[list[Floats]] = [[] for _ in self._places]
        added: list[Floats] = []
        for found in values(self._graph, names, samples, threads):
            by_name = dict(zip(names, found, strict=True))
            where = self._places[0].positions()
            for rows, place, source in zip(inputs, self._places, self._sources, strict=True):
                rows.append(place.rows(by_name[source], where))
            if self._added:
                flat = by_name[self._added].reshape(-1, by_name[self._added].shape[-1])
                added.append(flat[where] if where.size else flat)
        return _Seen([np.concatenate(rows) for rows in inputs], np.concatenate(added) if added else None)
