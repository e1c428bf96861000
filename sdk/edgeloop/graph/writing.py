"""Graph values -> .tflite bytes, through LiteRT's object API.

Constants that share memory share one buffer, as in the file they came from; others never do, since two equal constants
may be quantized differently later. Buffers nothing refers to are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeloop.errors import UsageError
from edgeloop.graph import appended, litert
from edgeloop.graph.dtypes import ELEMENT_TYPES, Array, Bytes, pack
from edgeloop.graph.model import Graph
from edgeloop.graph.values import NO_TENSOR, Op, Quantization, Signature, Subgraph, Tensor

_ALIGNMENT_BYTES = 16
_MAX_FILE_BYTES = (1 << 31) - (1 << 20)
_LAST_8_BIT_CODE = 127


def write_bytes(graph: Graph) -> bytes:
    """Raises UsageError where the values contradict each other, or would not fit what .tflite can hold."""
    if graph.not_carried:
        raise UsageError(
            f"the model has what the installed LiteRT cannot write back: {', '.join(graph.not_carried)}",
            hint="upgrade ai-edge-litert",
        )
    import flatbuffers

    writer = _Writer(graph)
    model = writer.model()
    size = sum(buffer.raw.size for buffer in writer.buffers if buffer.raw is not None)
    if size > _MAX_FILE_BYTES:
        raise UsageError(f"the model's constants take {size >> 20} MiB; a .tflite holds at most 2 GiB")
    builder = flatbuffers.Builder(size + 64 * len(writer.buffers) + (1 << 16))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    flat = bytes(memoryview(builder.Bytes)[builder.Head() :])  # `Output` would copy once more
    if not graph.appended:
        return flat
    return flat + appended.moved(graph.appended, len(flat))


class _Buffer:
    """LiteRT's BufferT without its flaw: the schema asks for constants on 16-byte borders, the generated `Pack` does
    not.
    """

    def __init__(self, raw: Bytes | None) -> None:
        self.raw = raw

    def Pack(self, builder: Any) -> int:
        schema = litert.schema()
        vector = None
        if self.raw is not None:
            builder.StartVector(1, self.raw.size, _ALIGNMENT_BYTES)
            builder.head -= self.raw.size
            builder.Bytes[builder.head : builder.head + self.raw.size] = self.raw.tobytes()
            vector = builder.EndVector()
        schema.BufferStart(builder)
        if vector is not None:
            schema.BufferAddData(builder, vector)
        return int(schema.BufferEnd(builder))


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.schema = litert.schema()
        self.types = litert.enum_values("TensorType")
        self.buffers = [_Buffer(None)]
        self.known_buffers: dict[object, int] = {}
        self.known_codes: dict[tuple[str, bool, int], int] = {}
        self.codes: list[Any] = []

    def model(self) -> Any:
        graph, schema = self.graph, self.schema
        model = schema.ModelT()
        model.version = graph.version
        model.description = graph.description.encode("utf-8", "surrogateescape")
        model.subgraphs = [self._subgraph(subgraph) for subgraph in graph.subgraphs]
        model.operatorCodes = self.codes
        model.signatureDefs = [self._signature(signature) for signature in graph.signatures] or None
        model.metadata = [
            self._metadata(name, value) for name, value in [*graph.metadata.items(), *graph.repeated_metadata]
        ] or None
        if graph.metadata_buffers:
            model.metadataBuffer = _int32([self._add(value) for value in graph.metadata_buffers])
        model.externalBufferGroups = [self._group(name) for name in graph.external_buffer_groups] or None
        model.externalBuffers = list(graph.external_buffers) or None
        model.buffers = self.buffers
        return model

    def _add(self, value: bytes) -> int:
        self.buffers.append(_Buffer(np.frombuffer(value, np.uint8)))
        return len(self.buffers) - 1

    def _metadata(self, name: str, value: bytes) -> Any:
        entry = self.schema.MetadataT()
        entry.name, entry.buffer = _encoded(name), self._add(value)
        return entry

    def _group(self, name: str) -> Any:
        group = self.schema.ExternalBufferGroupT()
        group.name = _encoded(name)
        return group

    def _signature(self, signature: Signature) -> Any:
        if not 0 <= signature.subgraph < len(self.graph.subgraphs):
            raise UsageError(f"signature {signature.key!r} names subgraph {signature.subgraph}, which is not there")
        count = len(self.graph.subgraphs[signature.subgraph].tensors)
        entry = self.schema.SignatureDefT()
        entry.signatureKey = _encoded(signature.key)
        entry.subgraphIndex = signature.subgraph
        entry.inputs = [self._argument(name, index, count) for name, index in signature.inputs.items()]
        entry.outputs = [self._argument(name, index, count) for name, index in signature.outputs.items()]
        return entry

    def _argument(self, name: str, index: int, count: int) -> Any:
        _check_indices([index], count, f"signature argument {name!r}", lowest=0)
        argument = self.schema.TensorMapT()
        argument.name, argument.tensorIndex = _encoded(name), index
        return argument

    def _subgraph(self, subgraph: Subgraph) -> Any:
        count = len(subgraph.tensors)
        _check_indices([*subgraph.inputs, *subgraph.outputs], count, f"subgraph {subgraph.name!r}", lowest=0)
        result = self.schema.SubGraphT()
        result.name = _encoded(subgraph.name) or None
        result.tensors = [self._tensor(tensor) for tensor in subgraph.tensors]
        result.inputs, result.outputs = _int32(subgraph.inputs), _int32(subgraph.outputs)
        result.operators = [self._op(op, index, count) for index, op in enumerate(subgraph.ops)]
        result.debugMetadataIndex = subgraph.debug_metadata_index
        return result

    def _tensor(self, tensor: Tensor) -> Any:
        if tensor.dtype not in ELEMENT_TYPES:
            raise UsageError(f"tensor {tensor.name!r}: {tensor.dtype!r} is no element type", hint="e.g. float32, int8")
        result = self.schema.TensorT()
        result.name = _encoded(tensor.name) or None
        result.shape = _int32(tensor.shape)
        result.type = self.types[tensor.dtype.upper()]
        result.buffer = 0 if tensor.data is None else self._constant(tensor, tensor.data)
        result.quantization = self._quantization(tensor.quantization)
        result.shapeSignature = None if tensor.shape_signature is None else _int32(tensor.shape_signature)
        result.isVariable = tensor.is_variable
        result.hasRank = tensor.has_rank
        result.sparsity = tensor.sparsity
        result.variantTensors = tensor.variant_tensors
        result.externalBuffer = tensor.external_buffer
        return result

    def _constant(self, tensor: Tensor, data: Array) -> int:
        """Index of the buffer with these data; the same one for the same memory."""
        key: object = id(data)
        if data.size and data.flags.c_contiguous:
            packing = "" if tensor.raw else str(ELEMENT_TYPES[tensor.dtype].bits)
            key = (data.__array_interface__["data"][0], data.nbytes, packing)
        if key not in self.known_buffers:
            self.known_buffers[key] = len(self.buffers)
            self.buffers.append(_Buffer(_packed(tensor, data)))
        return self.known_buffers[key]

    def _quantization(self, quantization: Quantization | None) -> Any:
        if quantization is None:
            return None
        result = self.schema.QuantizationParametersT()
        result.scale = _vector(quantization.scale, np.float32)
        result.zeroPoint = _vector(quantization.zero_point, np.int64)
        result.min = _vector(quantization.minimum, np.float32)
        result.max = _vector(quantization.maximum, np.float32)
        result.quantizedDimension = quantization.dimension
        if quantization.details is not None:
            result.details = quantization.details
            result.detailsType = litert.enum_values("QuantizationDetails")[_table_name(quantization.details)]
        return result

    def _op(self, op: Op, index: int, count: int) -> Any:
        _check_indices([*op.inputs, *op.outputs, *op.intermediates], count, f"op {index} ({op.name})", lowest=NO_TENSOR)
        result = self.schema.OperatorT()
        result.opcodeIndex = self._code(op)
        result.inputs, result.outputs = _int32(op.inputs), _int32(op.outputs)
        if op.options is not None:
            table = _table_name(op.options)
            for enum, field in (("BuiltinOptions", "builtinOptions"), ("BuiltinOptions2", "builtinOptions2")):
                if table in litert.enum_values(enum):
                    setattr(result, field, op.options)
                    setattr(result, field + "Type", litert.enum_values(enum)[table])
        if op.custom_options is not None:
            result.customOptions = np.frombuffer(op.custom_options, np.uint8)
        result.customOptionsFormat = op.custom_options_format
        result.intermediates = _int32(op.intermediates) if op.intermediates else None
        if op.mutating_variable_inputs:
            result.mutatingVariableInputs = np.array(op.mutating_variable_inputs, np.bool_)
        result.debugMetadataIndex = op.debug_metadata_index
        return result

    def _code(self, op: Op) -> int:
        key = (op.name, op.custom, op.version)
        if key not in self.known_codes:
            self.known_codes[key] = len(self.codes)
            code = self.schema.OperatorCodeT()
            try:
                code.builtinCode = litert.builtin_code("CUSTOM" if op.custom else op.name)
            except KeyError:
                raise UsageError(f"{op.name!r} is no TFLite operator", hint="a custom one needs custom=True") from None
            code.deprecatedBuiltinCode = min(code.builtinCode, _LAST_8_BIT_CODE)
            code.customCode = _encoded(op.name) if op.custom else None
            code.version = op.version
            self.codes.append(code)
        return self.known_codes[key]


def _packed(tensor: Tensor, data: Array) -> Bytes:
    kind = ELEMENT_TYPES[tensor.dtype]
    if tensor.raw or kind.numpy is None:
        if data.dtype != np.uint8:
            raise UsageError(f"tensor {tensor.name!r}: raw data must be uint8, not {data.dtype}")
        return np.ascontiguousarray(data).reshape(-1)  # type: ignore[return-value]
    if data.dtype != kind.numpy:
        raise UsageError(f"tensor {tensor.name!r} is {tensor.dtype}, its data are {data.dtype}")
    if data.size != tensor.element_count:
        raise UsageError(f"tensor {tensor.name!r} has shape {list(tensor.shape)}, its data {list(data.shape)}")
    return pack(data, tensor.dtype)


def _check_indices(indices: Sequence[int], count: int, where: str, *, lowest: int) -> None:
    for index in indices:
        if not lowest <= index < count:
            raise UsageError(f"{where} names tensor {index}; the subgraph has {count}")


def _table_name(options: object) -> str:
    return type(options).__name__.removesuffix("T")


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _int32(values: Sequence[int]) -> Any:
    return np.array(values, np.int32)


def _vector(values: Any, dtype: type) -> Any:
    return np.ascontiguousarray(values, dtype).reshape(-1) if np.size(values) else None
