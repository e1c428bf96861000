"""What each op costs alone, by its shapes: a table kept per CPU and runtime, filled by the meter where it has no entry.

The sum over a model's ops predicts the model: kernels' counts depend on shapes and types, not on values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from edgeloop import paths
from edgeloop.bench.instructions import NOTHING, Counted, Instructions, OpGroup
from edgeloop.errors import UsageError
from edgeloop.graph import NO_TENSOR, Graph, Op, Tensor
from edgeloop.graph.parts import extract

_SHAPING = ("int32", "int64", "bool")
"""Constants of these types are sizes, axes and paddings, unless they are quantized (biases)."""


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
            self._known = {key: Instructions(*values) for key, values in stored.items()}
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
        partial = self._path.with_suffix(".partial")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps({key: cost.values for key, cost in sorted(self._known.items())}))
            partial.replace(self._path)
        except OSError:
            partial.unlink(missing_ok=True)
        self._added = 0


def op_groups(model: bytes, meter: Meter, table: CostTable, runtime: str = "") -> tuple[OpGroup, ...]:
    """Costs of the main subgraph's ops by builtin name, the dearest (by SIMD) first. runtime: its version, which is
    part of an entry's key.

    An op that cannot run alone (control flow, its own state) counts with NOTHING.
    """
    graph = Graph.read(model)
    groups: dict[str, tuple[int, Instructions]] = {}
    for op in graph.main.ops:
        count, cost = groups.get(op.name, (0, NOTHING))
        groups[op.name] = (count + 1, cost + op_cost(graph, op, meter, table, runtime))
    table.save()
    found = (OpGroup(name, count, cost) for name, (count, cost) in groups.items())
    return tuple(sorted(found, key=lambda group: -group.cost.simd_instructions))


def predicted(model: bytes, meter: Meter, table: CostTable, runtime: str = "") -> Instructions:
    """The model's cost as the sum of its ops'. Without the runtime's own work between them."""
    return sum((group.cost for group in op_groups(model, meter, table, runtime)), NOTHING)


def op_cost(graph: Graph, op: Op, meter: Meter, table: CostTable, runtime: str = "") -> Instructions:
    """Of one op of the main subgraph, from the table or measured as a model of its own."""
    key = op_key(graph, op, runtime)
    known = table.get(key)
    if known is None:
        known = _measured(graph, op, meter)
        table.put(key, known)
    return known


def _measured(graph: Graph, op: Op, meter: Meter) -> Instructions:
    tensors = graph.main.tensors
    inputs = [i for i in dict.fromkeys(op.inputs) if i != NO_TENSOR and not tensors[i].is_constant]
    if not inputs or any(tensors[i].is_variable for i in inputs):
        return NOTHING
    alone = extract(graph, [op], inputs, op.outputs)[0]
    try:
        return meter.measure(alone.write(), op.name).cost
    except UsageError:
        return NOTHING


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
