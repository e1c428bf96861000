"""Which ONNX files can be taken at all: opsets, and ops that a converter knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeloop.errors import UsageError

OWN_DOMAINS = ("", "ai.onnx")
_SAFE_OPSET = 17


class CannotConvert(UsageError):
    """What onnx2torch or litert-torch cannot do, and onnx2tf perhaps can."""


def check_opsets(proto: Any, source: Path) -> None:
    """Raises UsageError for an opset that this onnx does not know."""
    import onnx

    newest = int(onnx.defs.onnx_opset_version())
    for entry in proto.opset_import:
        if entry.domain in OWN_DOMAINS and not 1 <= entry.version <= newest:
            raise UsageError(
                f"{source}: ONNX opset {entry.version} is not known here (the newest is {newest})",
                hint=hint_for(entry.version),
            )
    if not any(entry.domain in OWN_DOMAINS for entry in proto.opset_import):
        raise UsageError(f"{source}: does not say which ONNX opset it uses", hint=hint_for(_SAFE_OPSET + 1))


def check_ops(proto: Any, source: Path) -> None:
    """Raises CannotConvert naming all ops that onnx2torch cannot convert; UsageError where nothing else can either."""
    from onnx2torch.node_converters.registry import get_converter

    versions = {entry.domain: entry.version for entry in proto.opset_import}
    unknown: dict[str, str] = {}
    for node in proto.graph.node:
        domain = "" if node.domain == "ai.onnx" else node.domain
        version = versions.get(node.domain, versions.get(domain, 0))
        try:
            get_converter(domain=domain, operation_type=node.op_type, version=version)
        except NotImplementedError:
            name = f"{domain}.{node.op_type}" if domain else node.op_type
            unknown.setdefault(name, node.name or (node.output[0] if node.output else "?"))
    if not unknown:
        return
    listed = ", ".join(f"{op} (node '{node[:60]}')" for op, node in list(unknown.items())[:4])
    more = " ..." if len(unknown) > 4 else ""
    message = f"{source}: onnx2torch has no converter for {listed}{more}, opset {opset_of(proto)}"
    foreign = ", ".join(name for name in unknown if _is_foreign(name, proto))
    if foreign:
        hint = f"no operator of ONNX: {foreign}; build the model without it, or give the PyTorch or Keras model"
        raise UsageError(message, hint=hint)
    raise CannotConvert(message, hint=hint_for(opset_of(proto)))


def _is_foreign(name: str, proto: Any) -> bool:
    """Neither in ONNX nor in what ONNX Runtime adds to it, nor a function that the file holds."""
    import onnx

    domain, _, op = name.rpartition(".")
    held = any(f.name == op and f.domain == domain for f in proto.functions)
    return not (held or domain == "com.microsoft" or onnx.defs.has(op, domain))


def hint_for(opset: int) -> str:
    other = "give the PyTorch or Keras model it was made from"
    return f"export it with opset_version={_SAFE_OPSET}, or {other}" if opset > _SAFE_OPSET else other


def opset_of(proto: Any) -> int:
    return int(next((e.version for e in proto.opset_import if e.domain in OWN_DOMAINS), 0))
