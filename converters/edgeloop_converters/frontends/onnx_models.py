"""ONNX to TFLite inside the child process: by way of PyTorch (onnx2torch, then litert-torch), and by onnx2tf for what
that does not know (`onnx2tf_models`)."""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeloop.errors import MissingExtraError, RefusedError, UsageError
from edgeloop_converters.frontends.file_scan import AGAIN
from edgeloop_converters.frontends.given_shape import GivenShape
from edgeloop_converters.frontends.loading import Stages, TorchModel
from edgeloop_converters.frontends.onnx_support import (
    OWN_DOMAINS,
    CannotConvert,
    check_ops,
    check_opsets,
    hint_for,
    opset_of,
)
from edgeloop_converters.frontends.torch_factory import given_shape
from edgeloop_converters.frontends.torch_models import convert_module, import_torch
from edgeloop_converters.frontends.user_code import first_line

FEATURE = "reading ONNX models"
_REFERENCE_VALUES = 1 << 32
"""Weights times input positions up to which ONNX's own (slow) evaluator is asked too."""


def to_float(request: dict[str, Any]) -> dict[str, Any]:
    """Task "float" for ONNX files: writes OUTPUT into `folder`; answers as `native.to_float` does.

    `onnx_engine` of the request: as the recipe has it; "" tries onnx2torch, then onnx2tf where that is set up here.
    """
    from edgeloop_converters.frontends import onnx2tf_env

    engine = request.get("onnx_engine") or ""
    if engine == "onnx2tf":
        return _by_onnx2tf(request)
    try:
        return _by_torch(request)
    except CannotConvert as error:
        if engine == "onnx2torch":
            raise UsageError(error.message, hint=error.hint) from error
        if not onnx2tf_env.is_ready():
            other = "onnx2tf knows more ops: --onnx-engine onnx2tf --install-engine sets it up (2.6 GB)"
            raise UsageError(error.message, hint=f"{error.hint}; {other}" if error.hint else other) from error
        answer = _by_onnx2tf(request)
        return {**answer, "notes": [f"onnx2tf took over: {error.message}", *answer["notes"]]}


def _by_onnx2tf(request: dict[str, Any]) -> dict[str, Any]:
    from edgeloop_converters.frontends import onnx2tf_env, onnx2tf_models
    from edgeloop_converters.frontends.torch_models import channels_last

    onnx2tf_env.check_ready()
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(FEATURE, "onnx") from error
    stages, source = Stages(), Path(request["source"])
    proto = _read(source)
    check_opsets(proto, source)
    examples = _inputs(proto, request, source)
    stages.done("read")
    moved = channels_last([x.shape for x in examples.values()], request.get("sample_shape"))
    answer = onnx2tf_models.convert(proto, examples, moved, request, stages)
    named = {key: [_plain(name) for name in answer[key]] for key in ("inputs", "outputs")}
    return {**answer, **named, "notes": [f"read by onnx2tf from ONNX opset {opset_of(proto)}", *answer["notes"]]}


def _by_torch(request: dict[str, Any]) -> dict[str, Any]:
    """Raises CannotConvert where another engine may do better."""
    stages = Stages()
    torch = import_torch(FEATURE, "onnx", stages)
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError(FEATURE, "onnx") from error
    convert = _onnx2torch()
    source = Path(request["source"])
    proto = _read(source)
    check_opsets(proto, source)
    check_ops(proto, source)
    original = onnx.ModelProto()
    original.CopyFrom(proto)
    fold_constants(proto)
    # onnx2torch writes Python code with these names in it.
    for i, node in enumerate(proto.graph.node):
        node.name = f"node_{i}"
    stages.done("read")
    try:
        module = convert(proto).eval()
    except Exception as error:  # onnx2torch raises whatever its converters do
        raise CannotConvert(
            f"{source}: onnx2torch cannot convert it: {first_line(error)}", hint=hint_for(opset_of(proto))
        ) from error
    given = _inputs(original, request, source)
    names, example = tuple(_plain(name) for name in given), tuple(torch.from_numpy(x) for x in given.values())
    notes = [f"read by onnx2torch from ONNX opset {opset_of(original)}"]
    off = _reference_error(original, module, names, example)
    if off is not None:
        notes.append(f"onnx2torch: outputs within {off:.0e} of ONNX's reference")
    model = TorchModel(module.float(), example, names, False, tuple(notes))
    stages.done("load")
    try:
        answer = convert_module(model, request, stages)
    except UsageError as error:
        raise CannotConvert(error.message, hint=error.hint) from error
    outputs = [value.name for value in original.graph.output]
    if len(outputs) == len(answer["outputs"]):
        answer["outputs"] = [_plain(outputs[i]) for i in answer["output_places"]]
    answer["versions"] = {**answer["versions"], "onnx": onnx.__version__}
    return answer


def _onnx2torch() -> Any:
    """onnx2torch.convert. Its torchvision, of which two rare ops are used, does not import beside every torch build."""
    try:
        import torchvision  # noqa: F401
    except Exception:
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        ops = types.ModuleType("torchvision.ops")
        for name in ("roi_align", "nms", "box_convert"):
            setattr(ops, name, _missing)
        stub = types.ModuleType("torchvision")
        stub.ops = ops  # type: ignore[attr-defined]
        sys.modules.update({"torchvision": stub, "torchvision.ops": ops})
    try:
        from onnx2torch import convert
    except ImportError as error:
        raise MissingExtraError(FEATURE, "onnx") from error
    return convert


def _missing(*_: object, **__: object) -> Any:
    raise UsageError("RoiAlign and NonMaxSuppression need a torchvision that fits torch")


def _read(source: Path) -> Any:
    import onnx

    try:
        proto = onnx.load(str(source))
        if not proto.graph.node:
            raise RefusedError(f"{source}: holds no graph: damaged, or not ONNX")
        return proto
    except (RefusedError, MemoryError):
        raise
    except Exception as error:  # protobuf's, and what onnx says of external data
        raise RefusedError(f"{source}: a damaged ONNX file ({first_line(error)})", hint=AGAIN) from error


def fold_constants(proto: Any) -> None:
    """Make initializers of Constant nodes and of Identity nodes over constants: onnx2torch looks for weights there.

    torch.onnx writes the latter for weights that are equal to another.
    """
    graph = proto.graph
    constants = {tensor.name: tensor.name for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        node.input[:] = [constants.get(name, name) for name in node.input]
        is_own = node.domain in OWN_DOMAINS and len(node.output) == 1 and node.output[0] not in outputs
        if is_own and node.op_type == "Identity" and node.input[0] in constants:
            constants[node.output[0]] = node.input[0]
        elif is_own and node.op_type == "Constant" and [a.name for a in node.attribute] == ["value"]:
            tensor = graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
            constants[tensor.name] = tensor.name
        else:
            kept.append(node)
    copies = []
    for node in kept:
        copy = type(node)()
        copy.CopyFrom(node)
        copies.append(copy)
    del graph.node[:]
    graph.node.extend(copies)


def _inputs(proto: Any, request: dict[str, Any], source: Path) -> dict[str, Any]:
    """The model's inputs by their own names -> example arrays with batch 1. Raises UsageError for free dimensions that
    nothing settles."""
    import numpy as np
    import onnx

    constants = {tensor.name for tensor in proto.graph.initializer}
    values = [value for value in proto.graph.input if value.name not in constants]
    given, random = given_shape(request, str(source)), np.random.default_rng(0)
    examples = {}
    for value in values:
        tensor = value.type.tensor_type
        dims = [int(d.dim_value) if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim]
        sizes = _settled(dims, value.name, given, source)
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        examples[value.name] = random.random(sizes).astype(dtype) if dtype.kind == "f" else np.zeros(sizes, dtype)
    given.check_used([value.name for value in values])
    return examples


def _settled(dims: Sequence[int | None], name: str, given: GivenShape, source: Path) -> list[int]:
    sizes = given.settle(name, dims, 1)
    if sizes and sizes[0] != 1 and len(sizes) > 1:
        raise UsageError(f"{source}: input '{name}' takes a batch of {sizes[0]}", hint="export it with batch 1")
    if None in sizes:
        given.check_fits(name)
        shown = ", ".join("?" if d is None else str(d) for d in sizes)
        raise UsageError(
            f"{source}: input '{name}' has no fixed shape ({shown})",
            hint="say it without the batch, channels first: --shape 3x224x224",
        )
    return [int(d) for d in sizes if d is not None]


def _reference_error(proto: Any, module: Any, names: Sequence[str], example: Sequence[Any]) -> float | None:
    """Largest relative difference from onnx's own evaluator; None where that would take long or cannot be had."""
    import numpy as np
    import torch

    weights = sum(int(np.prod(t.dims)) for t in proto.graph.initializer)
    positions = max((int(np.prod(x.shape[2:])) for x in example), default=1)
    if weights * positions > _REFERENCE_VALUES:
        return None
    try:
        from onnx.reference import ReferenceEvaluator

        given = {v: x.numpy() for v, x in zip(_input_names(proto), example, strict=True)}
        wanted = ReferenceEvaluator(proto).run(None, given)
    except Exception:  # it lacks some ops
        return None
    with torch.no_grad():
        got = module(*example)
    outputs = [got] if isinstance(got, torch.Tensor) else list(got)
    if len(outputs) != len(wanted):
        return None
    worst = 0.0
    for ours, theirs in zip(outputs, wanted, strict=True):
        if ours.dtype.is_floating_point and ours.numel():
            scale = max(float(np.abs(theirs).max()), 1e-6)
            worst = max(worst, float(np.abs(ours.numpy() - theirs).max()) / scale)
    return worst


def _input_names(proto: Any) -> list[str]:
    constants = {tensor.name for tensor in proto.graph.initializer}
    return [value.name for value in proto.graph.input if value.name not in constants]


def _plain(name: str) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)[:100]
    return kept or "tensor"
