"""What each op costs alone, by its shapes: a table kept per CPU and runtime, filled by the meter where it has no entry.

The sum over a model's ops predicts the model: kernels' counts depend on shapes and types, not on values. What the
runtime takes for any model at all is in each op that was measured alone; it is taken off there and counted once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from edgeloop import paths
from edgeloop.bench.instructions import NOTHING, Counted, Instructions, OpGroup
from edgeloop.errors import UsageError
from edgeloop.graph import NO_TENSOR, Graph, Op, Subgraph, Tensor
from edgeloop.graph.parts import extract

_SHAPING = ("int32", "int64", "bool")
"""Constants of these types are sizes, axes and paddings, unless they are quantized (biases)."""
RUNTIME = "(runtime)"
"""In place of an op's name: what one inference takes beside its ops."""


class Meter(Protocol):
    """`InstructionMeter`, or whatever else gives a model's cost."""

    @property
    def device(self) -> str: ...

    def measure(self, model: bytes | Path, name: str = ...) -> Counted: ...


class CostTable:
    """Op key -> instructions, in a file of its own per device; `save` replaces it whole.

    A file that cannot be read is begun anew: everything in it can be measured again.
    """

    def __init__(self, device: str, folder: Path | None = None) -> None:
        self._path = (folder or paths.cache_dir() / "emulated") / f"costs-{device.partition(':')[2]}.json"
        self._known: dict[str, Instructions] = {}
        self._added = 0
        try:
            stored: Mapping[str, list[int]] = json.loads(self._path.read_text())
            known = {key: Instructions(*values) for key, values in stored.items()}
            if all(isinstance(value, int) for cost in known.values() for value in cost.values):
                self._known = known
        except (OSError, ValueError, TypeError, AttributeError):
            pass

    def get(self, key: str) -> Instructions | None:
        return self._known.get(key)

    def put(self, key: str, cost: Instructions) -> None:
        self._known[key] = cost
        self._added += 1

    def save(self) -> None:
        """Nothing is written where nothing was added. A disk that takes nothing costs the next run its time only."""
        if not self._added:
            return
        partial = self._path.with_suffix(f".{os.getpid()}.partial")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps({key: cost.values for key, cost in sorted(self._known.items())}))
            partial.replace(self._path)
        except OSError:
            partial.unlink(missing_ok=True)
        self._added = 0


def op_groups(model: bytes, meter: Meter, table: CostTable, runtime: str = "") -> tuple[OpGroup, ...]:
    """Costs of the main subgraph's ops by builtin name, the dearest (by SIMD) first, RUNTIME last. runtime: its
    version, which is part of an entry's key.

    An op that cannot run alone (control flow, its own state) counts with NOTHING.
    """
    return _groups(Graph.read(model), meter, table, runtime)


def predicted(model: bytes | Graph, meter: Meter, table: CostTable, runtime: str = "") -> Instructions:
    """The model's cost as the sum of its ops' and of what one inference takes beside them."""
    graph = model if isinstance(model, Graph) else Graph.read(model)
    return sum((group.cost for group in _groups(graph, meter, table, runtime)), NOTHING)


def _groups(graph: Graph, meter: Meter, table: CostTable, runtime: str) -> tuple[OpGroup, ...]:
    beside = _beside_ops(meter, table, runtime)
    groups: dict[str, tuple[int, Instructions]] = {}
    for ops in _together(graph):
        cost = _less(_cost(graph, ops, meter, table, runtime), beside)
        for op in ops:
            count, before = groups.get(op.name, (0, NOTHING))
            groups[op.name] = (count + 1, before + (cost if op is ops[len(ops) // 2] else NOTHING))
    table.save()
    found = (OpGroup(name, count, cost) for name, (count, cost) in groups.items())
    return (*sorted(found, key=lambda group: -group.cost.simd_instructions), OpGroup(RUNTIME, 1, beside))


def _together(graph: Graph) -> list[tuple[Op, ...]]:
    """The ops in order, each alone but a float op between DEQUANTIZE and QUANTIZE: XNNPACK makes one of the three."""
    main = graph.main
    readers: dict[int, list[Op]] = {}
    for op in main.ops:
        for i in op.inputs:
            readers.setdefault(i, []).append(op)

    def only_reader(op: Op) -> Op | None:
        (out,) = op.outputs if len(op.outputs) == 1 else (NO_TENSOR,)
        found = readers.get(out, [])
        return found[0] if len(found) == 1 and out not in main.outputs else None

    chains: dict[int, tuple[Op, ...]] = {}
    for op in main.ops:
        inner = only_reader(op) if op.name == "DEQUANTIZE" else None
        outer = only_reader(inner) if inner is not None and len(inner.inputs) == 1 else None
        if inner is not None and outer is not None and outer.name == "QUANTIZE":
            chains.update({id(op): (op, inner, outer), id(inner): (), id(outer): ()})
    return [ops for op in main.ops if (ops := chains.get(id(op), (op,)))]


def _cost(graph: Graph, ops: Sequence[Op], meter: Meter, table: CostTable, runtime: str) -> Instructions:
    """From the table, or measured as a model of its own."""
    key = "+".join(op_key(graph, op, runtime) for op in ops)
    known = table.get(key)
    if known is None:
        known = _measured(graph, ops, meter)
        table.put(key, known)
    return known


def _measured(graph: Graph, ops: Sequence[Op], meter: Meter) -> Instructions:
    tensors = graph.main.tensors
    inputs = [i for i in dict.fromkeys(ops[0].inputs) if i != NO_TENSOR and not tensors[i].is_constant]
    if not inputs or any(tensors[i].is_variable for i in inputs):
        return NOTHING
    alone = extract(graph, ops, inputs, ops[-1].outputs)[0]
    try:
        return meter.measure(alone.write(), ops[0].name).cost
    except UsageError:
        return NOTHING


def _beside_ops(meter: Meter, table: CostTable, runtime: str) -> Instructions:
    """What one inference takes beside its ops: of one op and of the same op twice, what does not double."""
    key = f"{RUNTIME}-{runtime}"
    known = table.get(key)
    if known is None:
        once, twice = (meter.measure(_negations(n).write(), RUNTIME).cost for n in (1, 2))
        known = _less(once, twice - once)
        table.put(key, known)
    return known


def _negations(count: int) -> Graph:
    """-x, -(-x) and so on, of one number."""
    tensors = [Tensor(f"t{i}", (1, 1)) for i in range(count + 1)]
    ops = [Op("NEG", [i], [i + 1]) for i in range(count)]
    return Graph([Subgraph("main", tensors, [0], [count], ops)])


def _less(a: Instructions, b: Instructions) -> Instructions:
    """a - b, never below 0."""
    return Instructions(*(max(x - y, 0) for x, y in zip(a.values, b.values, strict=True)))


def op_key(graph: Graph, op: Op, runtime: str = "") -> str:
    """Equal for ops that take the same instructions: name, options, and of each tensor type, shape and kind; values
    only where they shape the work."""
    main = graph.main
    read = [_kind(main.tensors[i]) if i != NO_TENSOR else None for i in op.inputs]
    made = [_kind(main.tensors[i]) for i in op.outputs]
    options = sorted((k, repr(v)) for k, v in vars(op.options).items()) if op.options is not None else []
    text = json.dumps([runtime, op.name, op.version, options, read, made])
    return f"{op.name}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def _kind(tensor: Tensor) -> list[object]:
    shaping = tensor.data is not None and tensor.dtype in _SHAPING and not tensor.is_quantized
    values = tensor.data.reshape(-1).tolist() if shaping and tensor.data is not None else None
    return [tensor.dtype, list(tensor.shape), tensor.is_constant, tensor.is_per_channel, values]
