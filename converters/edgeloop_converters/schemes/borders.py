"""Inputs and outputs in float, int8 or uint8, by QUANTIZE and DEQUANTIZE at the model's borders."""

from __future__ import annotations

from edgeloop.graph import Graph, Op, Quantization, Subgraph, Tensor, make_options

_VERSIONS = {("QUANTIZE", "int16"): 2, ("DEQUANTIZE", "int8"): 2, ("DEQUANTIZE", "int16"): 3}
"""By the quantized side's dtype; 1 otherwise (TFLite's op_version.cc)."""


def set_io(model: bytes, io: str) -> bytes:
    """Give every quantized input and output of the main subgraph the kind `io`: "float", "int8" or "uint8".

    Inputs keep their name (the inner tensor gets a new one), outputs inside keep theirs. uint8 has int8's scale and a
    zero point 128 higher, so no value changes. Tensors that are of that kind already, or not quantized, stay.
    """
    dtype = "float32" if io == "float" else io
    graph = Graph.read(model)
    main = graph.main
    before = [op for i in range(len(main.inputs)) if (op := _input(graph, main, i, dtype)) is not None]
    after = [op for i in range(len(main.outputs)) if (op := _output(graph, main, i, dtype)) is not None]
    main.ops = [*before, *main.ops, *after]
    return graph.write()


def _input(graph: Graph, main: Subgraph, position: int, dtype: str) -> Op | None:
    inner = main.inputs[position]
    tensor = main.tensors[inner]
    if not _changes(tensor, dtype):
        return None
    outer = main.add_tensor(_twin(tensor, tensor.name, dtype))
    tensor.name = f"{tensor.name}_{tensor.dtype}"
    main.inputs[position] = outer
    for signature in graph.signatures:
        if signature.subgraph == 0:
            signature.inputs = {k: outer if v == inner else v for k, v in signature.inputs.items()}
    return _op("QUANTIZE", inner_dtype=tensor.dtype, source=outer, result=inner)


def _output(graph: Graph, main: Subgraph, position: int, dtype: str) -> Op | None:
    inner = main.outputs[position]
    tensor = main.tensors[inner]
    if not _changes(tensor, dtype):
        return None
    outer = main.add_tensor(_twin(tensor, f"{tensor.name}_{dtype}", dtype))
    main.outputs[position] = outer
    for signature in graph.signatures:
        if signature.subgraph == 0:
            signature.outputs = {k: outer if v == inner else v for k, v in signature.outputs.items()}
    name = "DEQUANTIZE" if dtype == "float32" else "QUANTIZE"
    return _op(name, inner_dtype=tensor.dtype, source=inner, result=outer)


def _changes(tensor: Tensor, dtype: str) -> bool:
    return tensor.dtype != dtype and tensor.dtype in ("int8", "int16") and tensor.affine.is_quantized


def _twin(tensor: Tensor, name: str, dtype: str) -> Tensor:
    affine = tensor.affine
    quantization = None
    if dtype != "float32":
        shift = {("int8", "uint8"): 128}.get((tensor.dtype, dtype), 0)
        quantization = Quantization.per_tensor(affine.scale, affine.zero_point + shift)
    return Tensor(name, tensor.shape, dtype, quantization=quantization, shape_signature=tensor.shape_signature)


def _op(name: str, *, inner_dtype: str, source: int, result: int) -> Op:
    options = make_options("QuantizeOptions" if name == "QUANTIZE" else "DequantizeOptions")
    return Op(name, [source], [result], options, version=_VERSIONS.get((name, inner_dtype), 1))
