"""What a model costs and where its ops would run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeloop.analysis.macs import MacCounter
from edgeloop.analysis.memory import peak_memory_bytes
from edgeloop.analysis.placement import Confirmation, DelegatePlan, place
from edgeloop.graph import Graph, Op, Subgraph, Tensor
from edgeloop.graph.dtypes import ELEMENT_TYPES, FLOAT_TYPES
from edgeloop.graph.naming import printable
from edgeloop.targets import Target


@dataclass(frozen=True)
class OpInfo:
    """One op of the main subgraph.

    `parameters` are those of its own constant inputs; `output` is its first output's shape.
    """

    index: int
    name: str
    placement: str
    reason: str
    macs: int
    parameters: int
    output: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Analysis:
    """Of one inference.

    `macs`: multiply-accumulates; `parameters`: trained values, shared ones once; `layers`: ops with such values;
    `peak_memory_bytes`: activations alive at once, see `edgeloop.analysis.memory`; `kind`: as `Graph.numeric_kind`.
    """

    macs: int
    parameters: int
    layers: int
    peak_memory_bytes: int
    kind: str
    ops: tuple[OpInfo, ...]
    delegates: Mapping[str, DelegatePlan]

    def to_dict(self) -> dict[str, Any]:
        """What `edgeloop analyze --json` prints; each delegate's preflight stands under its name."""
        return {
            "macs": self.macs,
            "parameters": self.parameters,
            "layers": self.layers,
            "peak_memory_bytes": self.peak_memory_bytes,
            "ops": [
                {"index": op.index, "name": op.name, "placement": op.placement, "reason": op.reason} for op in self.ops
            ],
            "delegates": {
                name: {"mapped_ops": plan.mapped_ops, "total_ops": plan.total_ops, "status": plan.status}
                for name, plan in self.delegates.items()
            },
            **{name: plan.preflight.to_dict() for name, plan in self.delegates.items()},
        }


def analyze(
    graph: Graph, target: Target | None = None, *, confirmed: Mapping[str, Confirmation] | None = None
) -> Analysis:
    """Cost of the main subgraph, and placement of its ops on the target's delegates (without a target: XNNPACK and
    CPU).

    confirmed: by delegate, what it or its compiler really took of this model; else placements are predictions.
    """
    main = graph.main
    placements, delegates = place(graph, target, confirmed)
    counter = MacCounter(graph)
    ops = []
    for index, (op, placement) in enumerate(zip(main.ops, placements, strict=True)):
        output = main.tensors[op.outputs[0]] if op.outputs and op.outputs[0] >= 0 else None
        ops.append(
            OpInfo(
                index=index,
                name=printable(op.name),
                placement=placement.delegate,
                reason=placement.reason,
                macs=counter.op(op, main),
                parameters=_parameters(_weights(op, main)),
                output=() if output is None else output.shape,
                dtype="" if output is None else output.dtype,
            )
        )
    return Analysis(
        macs=sum(op.macs for op in ops),
        parameters=_parameters([t for s in graph.subgraphs for op in s.ops for t in _weights(op, s)]),
        layers=sum(op.parameters > 0 for op in ops),
        peak_memory_bytes=peak_memory_bytes(main),
        kind=graph.numeric_kind(),
        ops=tuple(ops),
        delegates=delegates,
    )


def _weights(op: Op, subgraph: Subgraph) -> list[Tensor]:
    """Constants the op reads that hold trained values: floats, or codes of a quantized tensor.

    Shapes and axes are not.
    """
    return [
        tensor
        for tensor in subgraph.input_tensors(op)
        if tensor is not None and tensor.is_constant and (tensor.dtype in FLOAT_TYPES or tensor.is_quantized)
    ]


def _parameters(tensors: list[Tensor]) -> int:
    """Values stored, those of a shared constant once."""
    sizes: dict[int, int] = {}
    for tensor in tensors:
        if tensor.data is not None:
            bits = tensor.data.nbytes * 8
            sizes[id(tensor.data)] = bits // ELEMENT_TYPES[tensor.dtype].bits if tensor.raw else tensor.data.size
    return sum(sizes.values())
