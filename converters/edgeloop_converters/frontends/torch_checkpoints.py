"""`.pt` and `.pth`: what torch.save wrote. It has weights but no model, so what comes out is an error that says which
factory to write. Nothing in the file is run: only `weights_only` reads it, and onto the "meta" device, without memory.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeloop.errors import EdgeloopError, RefusedError, UsageError
from edgeloop_converters.frontends.file_scan import AGAIN, check_members
from edgeloop_converters.frontends.user_code import first_line

_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_NESTED = ("state_dict", "model_state_dict", "model", "net", "weights", "ema")


def refuse_checkpoint(path: Path) -> EdgeloopError:
    """The error for this file: UsageError with a factory for a state_dict, RefusedError for what would run code."""
    import torch

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = {name.partition("/")[2] for name in check_members(archive, str(path))}
            if "constants.pkl" in names:
                return UsageError(
                    f"{path}: a TorchScript archive, which is code", hint="export the model: torch.export.save(...)"
                )
        content = torch.load(path, map_location="meta", weights_only=True)
    except RefusedError as error:
        return error
    except Exception as error:  # a hostile or damaged pickle fails in many ways
        return _unreadable(path, error)
    state, key = _state_dict(content)
    if not state:
        return UsageError(f"{path}: holds {type(content).__name__}, not a state_dict", hint="save model.state_dict()")
    return UsageError(
        f"{path}: a state_dict of {len(state)} tensors ({_layers(state)}) without the code of its model",
        hint=f"name a function that makes the model, edgeloop convert models:{_function_name(path)}, in models.py:\n"
        + factory_text(path, state, key),
    )


def factory_text(path: Path, state: Mapping[str, Any], key: str) -> str:
    """The function to write, as Python text."""
    picked = f'["{key}"]' if key else ""
    return "\n".join(
        (
            "",
            "    import torch",
            "",
            f"    def {_function_name(path)}():",
            f"        model = ...  # your class: {_layers(state, 1)}",
            f'        checkpoint = torch.load("{path}", map_location="cpu", weights_only=True)',
            f"        model.load_state_dict(checkpoint{picked})",
            f"        return model.eval(), torch.rand({_input_guess(state)})",
        )
    )


def _unreadable(path: Path, error: Exception) -> EdgeloopError:
    text = str(error)
    if "weights_only" in text or "Unsupported" in text or "WeightsUnpickler" in text:
        found = _GLOBAL.search(text)
        what = f"a pickled {found.group(1)}" if found else "pickled Python objects"
        return RefusedError(
            f"{path}: holds {what}, which would run code when it is loaded",
            hint="save model.state_dict() instead, or load it in a function of your own: edgeloop convert models:make",
        )
    return RefusedError(f"{path}: a damaged checkpoint ({type(error).__name__}: {first_line(error)[:120]})", hint=AGAIN)


def _state_dict(content: Any) -> tuple[dict[str, Any], str]:
    """(tensors by name, key under which they were found)."""
    import torch

    if not isinstance(content, Mapping):
        return {}, ""
    own = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if own:
        return own, ""
    for key in (*_NESTED, *content):
        inner = content.get(key)
        if isinstance(inner, Mapping):
            state = {str(k): v for k, v in inner.items() if isinstance(v, torch.Tensor)}
            if state:
                return state, str(key)
    return {}, ""


def _layers(state: Mapping[str, Any], first: int = 3) -> str:
    """`conv1.weight [64, 3, 7, 7], ..., fc.bias [10]`."""
    shown = [f"{name} {list(value.shape)}" for name, value in state.items() if value.ndim]
    if len(shown) <= first + 1:
        return ", ".join(shown)
    return ", ".join(shown[:first]) + f", ..., {shown[-1]}"


def _input_guess(state: Mapping[str, Any]) -> str:
    first = next((value for value in state.values() if value.ndim >= 2), None)
    if first is None:
        return "1, ..."
    if first.ndim == 4:
        return f"1, {first.shape[1]}, 224, 224"
    return f"1, {first.shape[1]}" if first.ndim == 2 else f"1, {first.shape[1]}, 100"


def _function_name(path: Path) -> str:
    name = re.sub(r"\W+", "_", path.stem).strip("_").lower()
    return name if name.isidentifier() else "make_model"
