"""The last step of every way in: a .tflite made float32 throughout, batch 1, unique tensor names, with a signature."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgeloop.errors import UsageError
from edgeloop.graph import Graph, Subgraph, Tensor
from edgeloop_converters.frontends.given_shape import GivenShape
from edgeloop_converters.frontends.index_inputs import take_whole_numbers
from edgeloop_converters.frontends.own_biases import own_biases
from edgeloop_converters.frontends.pooling import pad_with_numbers
from edgeloop_converters.frontends.signatures import keep_signature
from edgeloop_converters.frontends.splits import slice_dead_splits
from edgeloop_converters.frontends.static_shapes import settle_free_sizes
from edgeloop_converters.io_names import unread_inputs
from edgeloop_converters.passes.graph.editing import Editor
from edgeloop_converters.passes.graph.replacing import depthwise_of_one_channel

_QUANTIZED_KINDS = {
    "int8": "is quantized to int8 already",
    "uint8": "is quantized to uint8 already",
    "int16": "is quantized to 16-bit activations already",
    "mixed": "is partly quantized already",
    "compiled": "is compiled for the Edge TPU",
}
_HINT = "give the float model it was made from"


class Normal(NamedTuple):
    """A float .tflite; notes on how it came about; warnings: what it has lost before it came here."""

    tflite: bytes
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def normalize(
    data: bytes | Path,
    source: Path,
    batch: int = 1,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    *,
    output_order: Sequence[str] = (),
    signature: str | None = None,
    given: GivenShape | None = None,
) -> Normal:
    """`inputs`, `outputs`: names for the signature where the converter kept none. output_order: names of the outputs in
    the source's order. signature, given: which one to take of a .tflite that has several, and its free sizes.

    Raises RefusedError (corrupt), UsageError (quantized already, another batch size)."""
    graph = Graph.read(data)
    said: tuple[str, ...] = ()
    if not inputs:  # a .tflite of the user's, not what a converter of ours wrote
        said = keep_signature(graph, signature, source)
        said = (*said, *settle_free_sizes(graph, given, batch, source)) if given is not None else said
    notes, warnings = make_float(graph, source)
    notes = (*said, *notes)
    _fix_batch(graph, source, batch)
    if inputs:
        _shorten_names(graph)
    slice_dead_splits(graph)
    whole = take_whole_numbers(graph)
    pad_with_numbers(graph)
    own_biases(graph)
    depthwise_of_one_channel(Editor(graph))  # so that its filters can be pruned like those of other layers
    graph.ensure_unique_names()
    name_borders(graph, inputs, outputs, output_order)
    if inputs:
        _call_inputs_by_name(graph)
    notes = (*notes, *(f"input '{name}' is read by no op of the model" for name in _names(graph, unread_inputs(graph))))
    if whole:
        named = " and ".join(f"'{name}'" for name in _names(graph, whole))
        notes = (*notes, f"input {named} takes whole numbers (int32) instead of float32: they choose rows of a table")
    return Normal(graph.write(), notes, warnings)


def _names(graph: Graph, inputs: Sequence[int]) -> tuple[str, ...]:
    return tuple(name for name, index in graph.ensure_signature().inputs.items() if index in inputs)


def name_borders(graph: Graph, inputs: Sequence[str], outputs: Sequence[str], output_order: Sequence[str] = ()) -> None:
    """Name the signature's arguments; bring the outputs into the source's order, which TensorFlow sorts by name."""
    signature = graph.ensure_signature()
    signature.inputs = _named(signature.inputs, inputs)
    signature.outputs = _named(signature.outputs, outputs)
    if output_order and set(output_order) == set(signature.outputs):
        signature.outputs = {name: signature.outputs[name] for name in output_order}
        graph.main.outputs = list(signature.outputs.values())


def _call_inputs_by_name(graph: Graph) -> None:
    """Errors name an input by its tensor: `ids`, where the converter wrote `serving_default_args_0:0`."""
    main = graph.main
    taken = {tensor.name for tensor in main.tensors}
    for name, index in graph.ensure_signature().inputs.items():
        if name not in taken:
            taken.add(name)
            main.tensors[index].name = name


def _shorten_names(graph: Graph) -> None:
    """TFLiteConverter names a fused tensor "a;b;c;...", 4 % of a small int8 file: "a" is enough.

    A constant may start like the output it belongs to; the output, which reports show, has the plain name. A .tflite
    that came in keeps its own names: its users have other files with the same ones.
    """
    for subgraph in graph.subgraphs:
        taken: set[str] = set()
        for tensor in sorted(subgraph.tensors, key=lambda t: t.data is not None):
            plain = name = tensor.name.split(";", 1)[0]
            number = 0
            while name in taken:
                number += 1
                name = f"{plain}_{number}"
            taken.add(name)
            tensor.name = name


def _named(arguments: dict[str, int], names: Sequence[str]) -> dict[str, int]:
    if len(names) != len(arguments):
        return arguments
    return dict(zip(names, arguments.values(), strict=True))


def make_float(graph: Graph, source: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Constants stored as float16 or int8 become float32. Returns (notes, warnings). Raises UsageError for a quantized
    model."""
    kind = graph.numeric_kind()
    if kind in _QUANTIZED_KINDS:
        raise UsageError(f"{source} {_QUANTIZED_KINDS[kind]}", hint=_HINT)
    if kind == "hybrid":
        _widen(graph)
        note = "only looks float: its weights are int8 already, so what is called float here has lost accuracy before"
        return (), (f"{source} {note}; {_HINT} if you have it",)
    if kind == "float16":
        _widen(graph)
        return (f"{source} stores its weights as float16",), ()
    if not any(t.dtype == "float32" for t in graph.inputs) and not any(t.dtype == "float32" for t in graph.outputs):
        raise UsageError(f"{source}: neither its inputs nor its outputs are float32", hint=_HINT)
    return (), ()


def _widen(graph: Graph) -> None:
    for subgraph in graph.subgraphs:
        for tensor in subgraph.tensors:
            if tensor.data is not None and tensor.raw is False and _is_weight(tensor):
                tensor.data, tensor.dtype, tensor.quantization = _as_float(tensor), "float32", None
        _drop_dequantize(subgraph)


def _is_weight(tensor: Tensor) -> bool:
    if tensor.dtype == "float16":
        return True
    return tensor.dtype in ("int8", "uint8", "int4") and tensor.is_quantized


def _as_float(tensor: Tensor) -> np.ndarray:
    assert tensor.data is not None
    values = tensor.data.astype(np.float32)
    quantization = tensor.quantization
    if tensor.dtype == "float16" or quantization is None or not len(quantization.scale):
        return values
    if quantization.details is not None:
        raise UsageError(f"weight '{tensor.name}' is quantized in blocks", hint=_HINT)
    shape = [1] * values.ndim
    if len(quantization.scale) > 1:
        shape[quantization.dimension] = -1
    zero = quantization.zero_point if len(quantization.zero_point) else np.zeros(1, np.int64)
    return (values - zero.reshape(shape if len(zero) > 1 else [1] * values.ndim)).astype(np.float32) * (
        quantization.scale.astype(np.float32).reshape(shape)
    )


def _drop_dequantize(subgraph: Subgraph) -> None:
    """DEQUANTIZE of what is a float32 constant by now does nothing: its readers take the constant."""
    renamed: dict[int, int] = {}
    kept = []
    for op in subgraph.ops:
        source = op.inputs[0] if op.inputs else -1
        if op.name == "DEQUANTIZE" and source >= 0 and subgraph.tensors[source].data is not None:
            renamed[op.outputs[0]] = source
        else:
            kept.append(op)
    for op in kept:
        op.inputs = [renamed.get(i, i) for i in op.inputs]
    subgraph.outputs = [renamed.get(i, i) for i in subgraph.outputs]
    subgraph.ops = kept


def _fix_batch(graph: Graph, source: Path, batch: int) -> None:
    for tensor in graph.inputs:
        free = tensor.shape_signature
        if free is not None and any(d < 0 for d in free[1:]):
            raise UsageError(
                f"{source}: input '{tensor.name}' has no fixed shape ({list(free)})",
                hint="say what it takes: --size 96x96 for a picture, else --shape 20x10 (without the batch)",
            )
        if tensor.shape and tensor.shape[0] != batch and len(tensor.shape) > 1:
            raise UsageError(
                f"{source}: input '{tensor.name}' takes a batch of {tensor.shape[0]}",
                hint=f"export it with batch {batch}",
            )
    for subgraph in graph.subgraphs:
        for tensor in subgraph.tensors:
            if tensor.shape_signature is not None and batch == 1 and tensor.shape[:1] == (1,):
                tensor.shape_signature = None
