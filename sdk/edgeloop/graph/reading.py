""".tflite bytes -> Graph values. Everything is checked before it is used; see `verify` for the bytes themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from edgeloop.errors import RefusedError
from edgeloop.graph import appended, litert
from edgeloop.graph.dtypes import ELEMENT_TYPES, Array, Bytes, unpack
from edgeloop.graph.model import Graph
from edgeloop.graph.naming import printable
from edgeloop.graph.values import NO_TENSOR, Op, Quantization, Signature, Subgraph, Tensor
from edgeloop.graph.verify import Extent, verify

_BUFFER_LOCATION = "buffer_location"
"""Metadata that says constants lie behind the flatbuffer. `write` puts them inside, so it is not carried over."""


def read_bytes(data: bytes) -> Graph:
    """Raises RefusedError for what is not a sound .tflite model."""
    schema = litert.schema()
    extent = verify(data, schema)
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
        return _Reader(data, model, extent).graph()
    except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
        raise _damaged(f"{type(error).__name__} while reading it") from error


class _Reader:
    def __init__(self, data: bytes, model: Any, extent: Extent) -> None:
        self.data = data
        self.model = model
        self.end = extent.end
        self.unknown = extent.unknown
        self.types = litert.enum_names("TensorType")
        self.buffers: list[Bytes | None] = [self._buffer(buffer) for buffer in model.buffers or []]
        self.codes = [self._operator_code(code) for code in model.operatorCodes or []]
        self.arrays: dict[tuple[int, str, tuple[int, ...]], Array | None] = {}

    def graph(self) -> Graph:
        model = self.model
        subgraphs = [self._subgraph(subgraph) for subgraph in model.subgraphs or []]
        if not subgraphs:
            raise _damaged("it has no subgraph")
        metadata: dict[str, bytes] = {}
        repeated: list[tuple[str, bytes]] = []
        for entry in model.metadata or []:
            name, value = text(entry.name), self._buffer_bytes(entry.buffer)
            if name == _BUFFER_LOCATION:
                continue
            if name in metadata:
                repeated.append((name, value))
            else:
                metadata[name] = value
        return Graph(
            subgraphs=subgraphs,
            signatures=[self._signature(entry, subgraphs) for entry in model.signatureDefs or []],
            metadata=metadata,
            description=text(model.description),
            version=model.version,
            repeated_metadata=repeated,
            metadata_buffers=[self._buffer_bytes(int(index)) for index in _list(model.metadataBuffer)],
            external_buffer_groups=[text(group.name) for group in model.externalBufferGroups or []],
            external_buffers=list(model.externalBuffers or []),
            appended=appended.behind(self.data, self.end),
            not_carried=tuple(sorted(self.unknown)),
        )

    def _outside(self, offset: int, size: int) -> Bytes:
        if offset + size > len(self.data):
            raise _damaged("an offset points outside of the file")
        self.end = max(self.end, offset + size)
        return np.frombuffer(self.data, np.uint8, size, offset)

    def _buffer(self, buffer: Any) -> Bytes | None:
        """Its bytes, inside the flatbuffer or behind it. Offsets 0 and 1 mean: not there."""
        if buffer.data is None and buffer.offset > 1 and buffer.size > 1:
            return self._outside(buffer.offset, buffer.size)
        data: Bytes | None = buffer.data
        return data

    def _buffer_bytes(self, index: int) -> bytes:
        if index >= len(self.buffers):
            raise _damaged(f"metadata name buffer {index} of {len(self.buffers)}")
        raw = self.buffers[index]
        return b"" if raw is None else raw.tobytes()

    def _operator_code(self, code: Any) -> tuple[str, bool, int]:
        """Name, whether custom, version. Files before 2020 have only the 8-bit code."""
        name = litert.builtin_name(max(code.builtinCode, code.deprecatedBuiltinCode))
        if name == "CUSTOM":
            return text(code.customCode), True, code.version
        return name, False, code.version

    def _subgraph(self, subgraph: Any) -> Subgraph:
        tensors = [self._tensor(tensor) for tensor in subgraph.tensors or []]
        indices = _Indices(len(tensors))
        return Subgraph(
            name=text(subgraph.name),
            tensors=tensors,
            inputs=indices.checked(subgraph.inputs),
            outputs=indices.checked(subgraph.outputs),
            ops=[self._op(op, indices) for op in subgraph.operators or []],
            debug_metadata_index=subgraph.debugMetadataIndex,
        )

    def _tensor(self, tensor: Any) -> Tensor:
        dtype = self.types.get(tensor.type, "").lower()
        name = text(tensor.name)
        if dtype not in ELEMENT_TYPES:
            raise RefusedError(
                f"tensor {_shown(tensor.name)} has element type {tensor.type}, which is not known here",
                hint="upgrade edgeloop and ai-edge-litert, or get the file again",
            )
        shape = tuple(_list(tensor.shape))
        data, raw = self._constant(tensor, dtype, shape)
        return Tensor(
            name=name,
            shape=shape,
            dtype=dtype,
            data=data,
            quantization=_quantization(tensor.quantization),
            shape_signature=None if tensor.shapeSignature is None else tuple(_list(tensor.shapeSignature)),
            is_variable=bool(tensor.isVariable),
            raw=raw,
            has_rank=bool(tensor.hasRank),
            sparsity=tensor.sparsity,
            variant_tensors=tensor.variantTensors,
            external_buffer=tensor.externalBuffer,
        )

    def _constant(self, tensor: Any, dtype: str, shape: tuple[int, ...]) -> tuple[Array | None, bool]:
        """Data, and whether they are raw bytes.

        Tensors of one buffer get one array, so that writing shares it again.
        """
        index = tensor.buffer
        if index == 0:  # by convention the empty buffer
            return None, False
        if index >= len(self.buffers):
            raise _damaged(f"tensor {_shown(tensor.name)} names buffer {index} of {len(self.buffers)}")
        raw = self.buffers[index]
        if raw is None or (raw.size == 0 and 0 not in shape):
            return None, False
        if tensor.sparsity is not None:
            return raw, True
        key = (index, dtype, shape)
        if key not in self.arrays:
            self.arrays[key] = unpack(raw, dtype, shape)
        array = self.arrays[key]
        return (raw, True) if array is None else (array, False)

    def _op(self, op: Any, indices: _Indices) -> Op:
        if op.opcodeIndex >= len(self.codes):
            raise _damaged(f"an operator names code {op.opcodeIndex} of {len(self.codes)}")
        name, custom, version = self.codes[op.opcodeIndex]
        custom_options = None if op.customOptions is None else op.customOptions.tobytes()
        if op.largeCustomOptionsOffset > 1 and op.largeCustomOptionsSize > 1:
            custom_options = self._outside(op.largeCustomOptionsOffset, op.largeCustomOptionsSize).tobytes()
        if op.builtinOptions is not None and op.builtinOptions2 is not None:
            self.unknown.add("a second options table of one operator")
        options = op.builtinOptions if op.builtinOptions is not None else op.builtinOptions2
        if options is not None:
            _editable(options)
        return Op(
            name=name,
            inputs=indices.checked(op.inputs, optional=True),
            outputs=indices.checked(op.outputs, optional=True),
            options=options,
            version=version,
            custom=custom,
            custom_options=custom_options,
            custom_options_format=op.customOptionsFormat,
            intermediates=indices.checked(op.intermediates, optional=True),
            mutating_variable_inputs=[bool(flag) for flag in _list(op.mutatingVariableInputs)],
            debug_metadata_index=op.debugMetadataIndex,
        )

    def _signature(self, entry: Any, subgraphs: Sequence[Subgraph]) -> Signature:
        key = text(entry.signatureKey)
        if entry.subgraphIndex >= len(subgraphs):
            raise _damaged(
                f"signature {_shown(entry.signatureKey)} names subgraph {entry.subgraphIndex} of {len(subgraphs)}"
            )
        indices = _Indices(len(subgraphs[entry.subgraphIndex].tensors))
        maps = []
        for arguments in (entry.inputs or [], entry.outputs or []):
            names = [text(argument.name) for argument in arguments]
            if len(set(names)) != len(names):
                raise _damaged(f"signature {_shown(entry.signatureKey)} has two arguments of one name")
            maps.append(dict(zip(names, indices.checked([a.tensorIndex for a in arguments]), strict=True)))
        return Signature(key, entry.subgraphIndex, maps[0], maps[1])


class _Indices:
    """Tensor indices of one subgraph."""

    def __init__(self, count: int) -> None:
        self.count = count

    def checked(self, indices: Iterable[int] | None, *, optional: bool = False) -> list[int]:
        values = _list(indices)
        lowest = NO_TENSOR if optional else 0
        for value in values:
            if not lowest <= value < self.count:
                raise _damaged(f"it names tensor {value} of {self.count}")
        return values


def text(value: bytes | None) -> str:
    """A name from the file. Bytes that are not UTF-8 survive as surrogates and are written back as they were."""
    return (value or b"").decode("utf-8", "surrogateescape")


def _shown(name: bytes | None) -> str:
    return repr(printable(text(name), limit=60))


def _list(values: Iterable[int] | None) -> list[int]:
    if values is None:
        return []
    return [int(v) for v in values.tolist()] if isinstance(values, np.ndarray) else [int(v) for v in values]


def _editable(options: Any) -> None:
    """Vectors of numbers as lists, which can be changed; arrays from the file are read-only. Bytes stay arrays."""
    for name, value in vars(options).items():
        if isinstance(value, np.ndarray) and value.dtype != np.uint8:
            setattr(options, name, value.tolist())


def _quantization(table: Any) -> Quantization | None:
    if table is None:
        return None

    def vector(values: Any, dtype: type) -> Any:
        return np.zeros(0, dtype) if values is None else np.array(values, dtype)

    return Quantization(
        scale=vector(table.scale, np.float32),
        zero_point=vector(table.zeroPoint, np.int64),
        dimension=table.quantizedDimension,
        minimum=vector(table.min, np.float32),
        maximum=vector(table.max, np.float32),
        details=table.details,
    )


def _damaged(what: str) -> RefusedError:
    return RefusedError(f"damaged .tflite model: {what}", hint="get the file again, or convert the model again")
