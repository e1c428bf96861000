"""What a .tflite says, read straight from LiteRT's object API: for comparing files without going through Graph.

Two files are structurally equal where they differ only in layout: order and sharing of tables, empty vectors that are
absent in the other, buffers and operator codes that nothing uses, constants inside or behind the flatbuffer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema


def structure(data: bytes) -> dict[str, Any]:
    """Nested dicts and lists of plain values; constants as bytes."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    buffers = [_buffer(data, buffer) for buffer in model.buffers or []]
    result: dict[str, Any] = _plain(model)
    for name in ("buffers", "operatorCodes", "metadataBuffer"):
        result.pop(name, None)
    result["metadataBuffer"] = [buffers[i] for i in (model.metadataBuffer if model.metadataBuffer is not None else [])]
    result["metadata"] = [(m.name, buffers[m.buffer]) for m in model.metadata or [] if m.name != b"buffer_location"]
    result["subgraphs"] = [_subgraph(data, model, subgraph, buffers) for subgraph in model.subgraphs]
    return result


def shared_constants(data: bytes) -> list[list[tuple[int, int]]]:
    """Groups of (subgraph, tensor) that share one constant buffer, in order."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    users: dict[int, list[tuple[int, int]]] = {}
    for s, subgraph in enumerate(model.subgraphs):
        for t, tensor in enumerate(subgraph.tensors or []):
            if tensor.buffer and _buffer(data, model.buffers[tensor.buffer]):
                users.setdefault(tensor.buffer, []).append((s, t))
    return [group for group in users.values() if len(group) > 1]


def _buffer(data: bytes, buffer: Any) -> bytes | None:
    if buffer.offset > 1:
        return data[buffer.offset : buffer.offset + buffer.size]
    return buffer.data.tobytes() if buffer.data is not None and buffer.data.size else None


def _subgraph(data: bytes, model: Any, subgraph: Any, buffers: list[bytes | None]) -> dict[str, Any]:
    result: dict[str, Any] = _plain(subgraph)
    for plain, tensor in zip(result.get("tensors", []), subgraph.tensors or [], strict=True):
        plain.pop("buffer", None)
        plain["data"] = buffers[tensor.buffer] if tensor.buffer else None
    for plain, op in zip(result.get("operators", []), subgraph.operators or [], strict=True):
        code = model.operatorCodes[op.opcodeIndex]
        builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
        plain["opcodeIndex"] = (builtin, code.customCode or b"", code.version)
        start, size = plain.pop("largeCustomOptionsOffset"), plain.pop("largeCustomOptionsSize")
        if start > 1:
            plain["customOptions"] = list(data[start : start + size])
        if op.builtinOptions is None:
            plain.pop("builtinOptionsType", None)
    return result


def _plain(value: Any) -> Any:
    """Without what is absent or empty: None, empty lists, empty names, zero defaults."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if hasattr(value, "__dict__"):
        fields = {name: _plain(v) for name, v in vars(value).items()}
        named = {name: v for name, v in fields.items() if v is not None and v != [] and v != b""}
        return {**named, "": type(value).__name__}
    return value
