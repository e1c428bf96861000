"""PyTorch to TFLite, inside the child process. Nothing here is imported by the parent.

Three ways in end in one value, a TorchModel: a factory of the user's own (`module:function`), a `torch.export` program
(`.pt2`), and ONNX (`onnx_models`). litert-torch then converts a wrapper around it that takes pictures channels-last, so
that no TRANSPOSE is left at the model's border.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeloop.errors import MissingExtraError, UsageError
from edgeloop_converters.frontends.imports import importing
from edgeloop_converters.frontends.loading import OUTPUT, Stages, TorchModel
from edgeloop_converters.frontends.size_limit import check_size
from edgeloop_converters.frontends.table import TORCH
from edgeloop_converters.frontends.transposes import fold_transposes
from edgeloop_converters.frontends.user_code import first_line, where

FEATURE = "reading PyTorch models"
LARGEST_ERROR = 0.02
"""Of the largest output value: a .tflite farther from PyTorch than that does not compute the same thing."""


def to_float(request: dict[str, Any]) -> dict[str, Any]:
    """Task "float" for the PyTorch frontends: writes OUTPUT into `folder`; answers as `native.to_float` does."""
    stages = Stages()
    import_torch(FEATURE, "torch", stages)
    if request["frontend"] == "torch_function":
        from edgeloop_converters.frontends.torch_factory import load_factory

        model = load_factory(request)
    elif request["frontend"] == "torch_export":
        from edgeloop_converters.frontends.torch_programs import load_program

        model = load_program(request)
    else:
        from edgeloop_converters.frontends.torch_checkpoints import refuse_checkpoint

        raise refuse_checkpoint(Path(request["source"]))
    stages.done("load")
    check_size(sum(w.nbytes for w in model.module.state_dict().values()), str(request["source"]))
    return convert_module(model, request, stages)


def import_torch(feature: str, extra: str, stages: Stages) -> Any:
    """torch, with litert-torch imported too, its import timed. Raises MissingExtraError."""
    try:
        importing(TORCH).result()
        import torch
    except ImportError as error:
        raise MissingExtraError(feature, extra) from error
    stages.done("import")
    return torch


def convert_module(model: TorchModel, request: dict[str, Any], stages: Stages) -> dict[str, Any]:
    """Convert, compare with PyTorch, write OUTPUT. Raises UsageError for what litert-torch cannot do."""
    import litert_torch
    import torch

    from edgeloop.graph import Graph

    source = str(request["source"])
    shapes = [tuple(int(d) for d in x.shape) for x in model.example]
    moved = channels_last(shapes, request.get("sample_shape"))
    wrapper = _wrapped(model, moved)
    edge = tuple(_to_edge(x, i in moved) for i, x in enumerate(model.example))
    expected = _run_torch(wrapper, edge, shapes, source)
    stages.done("first run")
    try:
        converted = litert_torch.convert(wrapper, edge)
        data = bytes(converted.model_content())
    except Exception as error:  # tracing runs the user's code, lowering fails in many ways
        raise _cannot_convert(source, error) from error
    stages.done("convert")
    graph = Graph.read(data)
    if fold_transposes(graph):
        data = graph.write()
    signature = graph.ensure_signature()
    inputs = [model.names[_index(key, i)] for i, key in enumerate(signature.inputs)]
    places = [_index(key, i) for i, key in enumerate(signature.outputs)]
    worst = _difference(data, wrapper, edge, expected)
    stages.done("compare")
    if worst > LARGEST_ERROR:
        raise UsageError(
            f"{source}: the converted model is off by {worst:.1%} of PyTorch's largest output",
            hint="look for ops whose result depends on chance or on the batch (dropout, batch norm in training mode)",
        )
    (Path(request["folder"]) / OUTPUT).write_bytes(data)
    return {
        "versions": {"torch": torch.__version__, "litert-torch": litert_torch.__version__},
        "notes": [*model.notes, *_layout_notes(shapes, moved), f"converted by litert-torch: {_off_by(worst)}"],
        "seconds": stages.seconds,
        "inputs": inputs,
        "outputs": [wrapper.names[i] for i in places],
        "output_places": places,
    }


def channels_last(shapes: Sequence[tuple[int, ...]], sample_shape: Sequence[int] | None) -> frozenset[int]:
    """Which inputs [1, C, H, W] become [1, H, W, C].

    All of them, unless the data are arrays that are channels-first themselves: those go in as they are.
    """
    moved = frozenset(i for i, shape in enumerate(shapes) if len(shape) == 4)
    if len(shapes) == 1 and sample_shape is not None and moved:
        _, c, h, w = shapes[0]
        if tuple(sample_shape) == (c, h, w) != (h, w, c):
            return frozenset()
    return moved


def _layout_notes(shapes: Sequence[tuple[int, ...]], moved: frozenset[int]) -> list[str]:
    notes = []
    for i, shape in enumerate(shapes):
        if i in moved:
            _, c, h, w = shape
            notes.append(f"input [1, {c}, {h}, {w}] of PyTorch is [1, {h}, {w}, {c}] here: channels come last")
        elif len(shape) == 4:
            notes.append("the data are channels-first, so the input is too: a TRANSPOSE stays in the model")
    return notes


def _off_by(worst: float) -> str:
    return "bit for bit PyTorch's outputs" if worst == 0 else f"outputs within {worst:.0e} of PyTorch's"


def _to_edge(x: Any, is_moved: bool) -> Any:
    """An input as the .tflite takes it: pictures channels-last, int64 as int32."""
    import torch

    x = x.permute(0, 2, 3, 1).contiguous() if is_moved else x
    return x.to(torch.int32) if x.dtype == torch.int64 else x


def _wrapped(model: TorchModel, moved: frozenset[int]) -> Any:
    """A module from the inputs as `_to_edge` gives them to a tuple of tensors; `names` has the outputs' after a run."""
    import torch
    from torch.utils import _pytree as pytree

    wants_long = [x.dtype == torch.int64 for x in model.example]

    class Edge(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model.module
            self.names: tuple[str, ...] = ()

        def forward(self, *inputs: Any) -> Any:
            given = [
                x.permute(0, 3, 1, 2) if i in moved else x.to(torch.int64) if wants_long[i] else x
                for i, x in enumerate(inputs)
            ]
            if model.keywords:
                result = self.model(**dict(zip(model.names, given, strict=True)))
            else:
                result = self.model(*given)
            leaves, _ = pytree.tree_flatten_with_path(result)
            kept = [(path, leaf) for path, leaf in leaves if isinstance(leaf, torch.Tensor)]
            self.names = _output_names([pytree.keystr(path) for path, _ in kept])
            return tuple(y.permute(0, 2, 3, 1) if moved and y.ndim == 4 else y for _, y in kept)

    # litert-torch puts the class' full name before every tensor's.
    Edge.__module__, Edge.__qualname__ = "edgeloop", "Edge"
    # Not .train(False) on the whole: an exported program has no modes.
    wrapper = Edge()
    wrapper.training = False
    return wrapper


def _output_names(paths: Sequence[str]) -> tuple[str, ...]:
    """`['logits']` -> logits, `[0]` -> output_0, `` -> output."""
    if len(paths) == 1 and not paths[0]:
        return ("output",)
    names: list[str] = []
    for i, path in enumerate(paths):
        plain = "".join(c if c.isalnum() or c == "_" else " " for c in path).split()
        name = "_".join(plain) if plain and not plain[0].isdigit() else f"output_{'_'.join(plain) or i}"
        names.append(name if name not in names else f"{name}_{i}")
    return tuple(names)


def _run_torch(wrapper: Any, inputs: tuple[Any, ...], shapes: Sequence[tuple[int, ...]], source: str) -> list[Any]:
    import torch

    try:
        with torch.no_grad():
            outputs = [y.detach() for y in wrapper(*inputs)]
    except Exception as error:  # the user's code may fail in any way
        given = ", ".join(str(list(shape)) for shape in shapes)
        raise UsageError(
            f"{source}: the model fails on inputs {given}: {where(error)}{type(error).__name__}: {first_line(error)}",
            hint="say what it takes: --shape 3x224x224 (channels first, without the batch), or return (module, "
            "example_inputs): token ids as torch.long",
        ) from error
    if not outputs:
        raise UsageError(f"{source}: the model returns no tensor")
    return outputs


def _difference(data: bytes, wrapper: Any, edge: tuple[Any, ...], expected: list[Any]) -> float:
    """Largest difference of a float output from PyTorch's, relative to that output's largest value; two inputs."""
    import numpy as np
    import torch

    from edgeloop.graph import Graph
    from edgeloop.runtime import open_session

    graph = Graph.read(data)
    signature = graph.ensure_signature()
    places_in = [_index(key, i) for i, key in enumerate(signature.inputs)]
    in_order = [graph.main.inputs.index(t) for t in signature.inputs.values()]
    places_out = [_index(key, i) for i, key in enumerate(signature.outputs)]
    out_order = [graph.main.outputs.index(t) for t in signature.outputs.values()]
    generator = torch.Generator().manual_seed(0)
    other = tuple(torch.randn(x.shape, generator=generator) if x.dtype == torch.float32 else x.clone() for x in edge)
    with torch.no_grad():
        draws = [(edge, expected), (other, [y.detach() for y in wrapper(*other)])]
    worst = 0.0
    with open_session(data, delegate="cpu") as session:
        for inputs, outputs in draws:
            for place, at in zip(places_in, in_order, strict=True):
                session.set_input(at, inputs[place].numpy())
            session.invoke()
            for place, at in zip(places_out, out_order, strict=True):
                wanted = outputs[place]
                if not wanted.dtype.is_floating_point or not wanted.numel():
                    continue
                got = torch.from_numpy(np.atleast_1d(session.output(at))).reshape(wanted.shape)
                scale = max(float(wanted.abs().max()), 1e-6)
                worst = max(worst, float((got - wanted).abs().max()) / scale)
    return worst


def _index(key: str, otherwise: int) -> int:
    """`args_3` -> 3, `output_2` -> 2."""
    tail = key.rpartition("_")[2]
    return int(tail) if tail.isdigit() else otherwise


def _cannot_convert(source: str, error: Exception) -> UsageError:
    from edgeloop_converters.frontends.explain import explain_torch

    message, hint = explain_torch(error)
    return UsageError(f"{source}: {where(error)}{message}", hint=hint)
