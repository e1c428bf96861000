"""`module:function`: a model that code of the user's own makes. Named on the command line, never in a file."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from edgeloop.errors import UsageError
from edgeloop_converters.frontends.given_shape import GivenShape
from edgeloop_converters.frontends.loading import TorchModel
from edgeloop_converters.frontends.user_code import first_line, where

_RETURNS = "it returns a torch.nn.Module, or (module, example_inputs)"


def load_factory(request: dict[str, Any]) -> TorchModel:
    """Import the module from the folder the user is in, call the function. Raises UsageError naming file and line."""
    import torch

    spec = str(request["source"])
    module_name, _, function_name = spec.partition(":")
    # torch and litert-torch are imported by now: a torch.py beside the user's code is not taken for them.
    os.chdir(request["cwd"])
    sys.path.insert(0, request["cwd"])
    function = _find(module_name, function_name, spec)
    try:
        made = function()
    except Exception as error:  # the user's code may fail in any way
        raise UsageError(f"{spec}: {where(error)}{type(error).__name__}: {first_line(error)}") from error
    module, example = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, torch.nn.Module):
        raise UsageError(f"{spec}: gave {type(made).__name__}, not a model", hint=_RETURNS)
    if isinstance(module, torch.jit.ScriptModule):
        raise UsageError(f"{spec}: gave a TorchScript module", hint="return the module itself, not torch.jit.script")
    if request.get("shapes"):
        raise UsageError(
            f"{spec}: --shape by input name is not for PyTorch functions",
            hint="return (module, example_inputs) of that size, a dictionary by argument name where there are several",
        )
    notes = _prepare(module)
    if isinstance(example, Mapping):
        names, given = tuple(str(k) for k in example), _with_shape(tuple(example.values()), request.get("shape"), spec)
        return TorchModel(module, _batch_1(given, spec), names, True, notes)
    if example is None:
        given = (torch.rand(*default_shape(request, spec)),)
    else:
        given = (example,) if isinstance(example, torch.Tensor) else tuple(example)
        given = _with_shape(given, request.get("shape"), spec)
    return TorchModel(module, _batch_1(given, spec), _parameter_names(module, len(given)), False, notes)


def default_shape(request: dict[str, Any], what: str) -> tuple[int, ...]:
    """[1, ...] by --shape, else by what contract and data say of a sample, pictures turned channels-first.

    Raises UsageError when nothing says it."""
    given = request.get("shape")
    if given:
        return (1, *given)
    sample = request.get("sample_shape")
    if not sample:
        raise UsageError(
            f"{what}: which input shape does the model take?",
            hint="--shape 3x224x224 (channels first, without the batch), or return (module, example_inputs)",
        )
    if len(sample) == 3 and (sample[2] in (1, 3) or sample[0] not in (1, 3)):
        height, width, channels = sample
        return (1, channels, height, width)
    return (1, *sample)


def given_shape(request: dict[str, Any], what: str) -> GivenShape:
    """For models whose inputs have shapes of their own; what contract and data say of a picture, channels-first."""
    known = request.get("sample_shape")
    if known and not isinstance(known, Mapping):
        known = default_shape({"sample_shape": known}, what)[1:]
    return GivenShape({**request, "sample_shape": known})


def _find(module_name: str, function_name: str, spec: str) -> Any:
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            stem = module_name.removesuffix(".py")
            hint = f"write {stem}:{function_name}" if stem != module_name else "run it from the folder the module is in"
            raise UsageError(f"{spec}: there is no module '{module_name}'", hint=hint) from error
        raise UsageError(f"{spec}: {where(error)}the package '{error.name}' is missing") from error
    except SyntaxError as error:
        raise UsageError(f"{spec}: {error.filename}:{error.lineno}: {error.msg}") from error
    except Exception as error:  # importing runs the user's code
        raise UsageError(f"{spec}: {where(error)}{type(error).__name__}: {first_line(error)}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        own = [n for n, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == module_name]
        have = ", ".join(sorted(own)[:8]) or "none"
        raise UsageError(f"{spec}: {module_name} has no function '{function_name}'", hint=f"its functions: {have}")
    return function


def _prepare(module: Any) -> tuple[str, ...]:
    import torch

    notes = []
    if module.training:
        module.eval()
        notes.append("the module was in training mode; it is converted in eval mode")
    kinds = {p.dtype for p in module.parameters() if p.dtype.is_floating_point} - {torch.float32}
    module.to("cpu").float()
    if kinds:
        names = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
        notes.append(f"{names} weights become float32")
    return tuple(notes)


def _batch_1(given: Sequence[Any], spec: str) -> tuple[Any, ...]:
    """Detached CPU tensors with batch 1, floats as float32."""
    import torch

    tensors = []
    for x in given:
        if not isinstance(x, torch.Tensor):
            raise UsageError(f"{spec}: an example input is {type(x).__name__}, not a tensor", hint=_RETURNS)
        x = x.detach().cpu()
        x = x.float() if x.dtype.is_floating_point else x
        tensors.append(x[:1].clone() if x.ndim and x.shape[0] > 1 else x.clone())
    return tuple(tensors)


def _with_shape(given: tuple[Any, ...], shape: Sequence[int] | None, spec: str) -> tuple[Any, ...]:
    """--shape wins over the example: of the first input with as many axes, and of those that are of its shape."""
    if not shape:
        return given
    sizes = [tuple(x.shape[1:]) for x in given]
    first = next((size for size in sizes if len(size) == len(shape)), None)
    if first is None:
        listed = ", ".join("x".join(map(str, size)) for size in sizes)
        raise UsageError(
            f"{spec}: --shape {'x'.join(map(str, shape))} fits no example input ({listed})",
            hint="sizes of one sample, channels first, without the batch",
        )
    return tuple(
        _resized(x, shape) if size == first != tuple(shape) else x for x, size in zip(given, sizes, strict=True)
    )


def _resized(x: Any, shape: Sequence[int]) -> Any:
    import torch

    return torch.rand(1, *shape) if x.dtype.is_floating_point else torch.zeros(1, *shape, dtype=x.dtype)


def _parameter_names(module: Any, count: int) -> tuple[str, ...]:
    """Names of forward's first parameters, else input_0, input_1, ..."""
    try:
        parameters = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:count]
    return tuple(names) if len(names) == count else tuple(f"input_{i}" for i in range(count))
