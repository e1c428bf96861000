"""What came out of a scheme, read back from the file: which ops compute in float, which weights are not as asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from edgeloop.errors import UsageError
from edgeloop.graph import Graph, Op, Subgraph, Tensor
from edgeloop_converters.quantization import Quantized, float_ops
from edgeloop_converters.schemes.table import FLOAT, SCHEMES, Scheme

Made = Quantized

WEIGHTED_OPS = frozenset(
    ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL", "EMBEDDING_LOOKUP", "CONV_3D")
)
_SMALL = 64
"""Constants of fewer values are shapes, axes and slopes rather than weights."""


def counted(names: Sequence[str]) -> str:
    """ "2 CONV_2D, ELU"."""
    return ", ".join(f"{count} {name}" if count > 1 else name for name, count in Counter(names).items())


def other_weights(graph: Graph, dtype: str) -> dict[str, tuple[str, ...]]:
    """Weights that are not of `dtype`: their dtype -> names of the ops that hold them, with repeats."""
    found: dict[str, list[str]] = {}
    for op, weight in _weights(graph):
        if weight.dtype != dtype:
            found.setdefault(weight.dtype, []).append(op.name)
    return {kind: tuple(names) for kind, names in found.items()}


def ops_in_float(model: bytes, scheme: str) -> tuple[int, int]:
    """(ops that compute in float, all); the first is 0 where the scheme computes in float anyway. QUANTIZE and
    DEQUANTIZE do not count.
    """
    graph = Graph.read(model)
    total = sum(op.name not in ("QUANTIZE", "DEQUANTIZE") for s in graph.subgraphs for op in s.ops)
    known = SCHEMES.get(scheme)
    is_float = scheme == FLOAT if known is None else known.activations == FLOAT
    return (0 if is_float else len(float_ops(graph))), total


def verified(model: bytes, scheme: Scheme) -> Made:
    """Read the packed file and say what is not as the scheme says.

    Raises UsageError where not a single weight or op is: then the file is the float model under another name.
    """
    graph = Graph.read(model)
    notes: list[str] = []
    floats: tuple[str, ...] = ()
    if scheme.activations != FLOAT:
        floats = float_ops(graph)
        if len(floats) == sum(op.name not in ("QUANTIZE", "DEQUANTIZE") for s in graph.subgraphs for op in s.ops):
            raise UsageError(f"--scheme {scheme.name}: no op of this model could be quantized", hint="--scheme float")
        if floats:
            notes.append(f"stayed float: {counted(floats)}")
    weights = [weight.dtype for _, weight in _weights(graph)]
    if weights and scheme.weights not in weights:
        raise UsageError(
            f"--scheme {scheme.name}: no weight of this model could be stored as {scheme.weights}",
            hint="--scheme int8",
        )
    for kind, names in other_weights(graph, scheme.weights).items():
        notes.append(f"weights left in {kind}: {counted(names)}")
    return Made(model, scheme.name, floats, tuple(notes))


def _weights(graph: Graph) -> Iterator[tuple[Op, Tensor]]:
    """Ops and their weights; where a DEQUANTIZE stands between them, the constant behind it."""
    for subgraph in graph.subgraphs:
        producers = subgraph.producers()
        for op in subgraph.ops:
            if op.name not in WEIGHTED_OPS:
                continue
            for index in op.inputs[:2]:
                weight = _constant(subgraph, producers, index)
                if weight is not None and weight.dtype not in ("int32", "int64", "bool"):
                    yield op, weight


def _constant(subgraph: Subgraph, producers: dict[int, int], index: int) -> Tensor | None:
    if index < 0:
        return None
    tensor = subgraph.tensors[index]
    if not tensor.is_constant and index in producers:
        before = subgraph.ops[producers[index]]
        if before.name != "DEQUANTIZE":
            return None
        tensor = subgraph.tensors[before.inputs[0]]
    return tensor if tensor.is_constant and tensor.element_count >= _SMALL else None
