"""Recurrent Keras layers, unrolled: step after step as plain ops, which can be quantized; a WHILE loop cannot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeloop.errors import UsageError

MAX_STEPS = 256
"""Longer sequences stay loops: the graph grows with every step, and so does the time to build it."""


def unroll(model: Any, specs: Sequence[Any]) -> tuple[str, ...]:
    """Set `unroll` on every recurrent layer of a Keras (3 or tf-keras) model that will be traced with `specs`.

    Returns notes. Layers that are unrolled already, and sequences longer than MAX_STEPS, stay as they are.
    """
    layers = [layer for layer in _all_layers(model) if _is_loop(layer)]
    if not layers:
        return ()
    named = ", ".join(f"{layer.name} ({type(layer).__name__})" for layer in layers[:4])
    steps = max((int(spec.shape[1]) for spec in specs if len(spec.shape) == 3), default=0)
    if steps > MAX_STEPS:
        return (f"recurrent layers {named} stay a loop over {steps} steps: up to {MAX_STEPS} are unrolled",)
    for layer in layers:
        layer.unroll = True
    return (f"recurrent layers {named} are unrolled over {steps or 'all'} steps: a loop could not be quantized",)


def keep_fused(model: Any, source: Path) -> tuple[str, ...]:
    """For TFLiteConverter's int8: an LSTM of tf-keras becomes one op with an int8 kernel, however long the sequence.

    Returns notes. Raises UsageError for other recurrent layers: their loop has no int8 kernel, and the calibrator
    crashes on it.
    """
    layers = [layer for layer in _all_layers(model) if _is_loop(layer)]
    others = [layer for layer in layers if type(layer).__name__ != "LSTM"]
    if others:
        raise UsageError(
            f"{source}: {others[0].name} ({type(others[0]).__name__}) is a loop over more than {MAX_STEPS} steps, "
            "which cannot be quantized",
            hint=f"up to {MAX_STEPS} steps are unrolled; an LSTM of Keras 2 may be longer; else --scheme float",
        )
    named = ", ".join(f"{layer.name} (LSTM)" for layer in layers[:4])
    return (
        f"{named}: too long to unroll, so TFLiteConverter quantized the model with its fused LSTM kernel; "
        "calibration methods, refinement and repairs are left out",
    )


def _is_loop(layer: Any) -> bool:
    return hasattr(layer, "unroll") and hasattr(layer, "cell") and not layer.unroll


def _all_layers(model: Any) -> list[Any]:
    flatten = getattr(model, "_flatten_layers", None)
    found = list(flatten()) if flatten is not None else list(model.layers)
    return list({id(layer): layer for layer in found}.values())
