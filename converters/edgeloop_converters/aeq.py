"""ai-edge-quantizer behind one function: a float .tflite in, its rules set by the caller, the packed file out."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from edgeloop.errors import MissingExtraError, UsageError
from edgeloop_converters.calibration import Ranges

Configure = Callable[[Any], None]
"""Sets the rules of an `ai_edge_quantizer.quantizer.Quantizer`; later rules win."""

_LIBRARY_ERRORS = (ValueError, RuntimeError, KeyError, TypeError, IndexError, NotImplementedError, AssertionError)


def pack(model: bytes, ranges: Ranges | None, configure: Configure) -> bytes:
    """Quantize by the rules that `configure` sets. ranges: None where activations stay float.

    Raises UsageError, one line, when the library cannot do it or a range is missing; MissingExtraError without it.
    """
    try:
        with quiet():
            from ai_edge_quantizer import quantizer
    except ImportError as error:
        raise MissingExtraError("quantization", "convert") from error
    measured = ranges and {
        name: {"min": np.array([[low]], np.float32), "max": np.array([[high]], np.float32)}
        for name, (low, high) in ranges.tensors.items()
    }
    with quiet() as noise:
        try:
            packer = quantizer.Quantizer(model)
            configure(packer)
            result = packer.quantize(measured, enable_progress_bar=False, enable_progress_report=False)
        except _LIBRARY_ERRORS as error:
            raise UsageError(
                f"ai-edge-quantizer cannot quantize this model: {_one_line(error, noise.getvalue())}"
            ) from error
    if result.quantized_model is None:
        raise UsageError("ai-edge-quantizer gave no model")
    return bytes(result.quantized_model)


def static(bits: int = 8, activation_bits: int = 8, op: str = "*", *, per_tensor: bool = False) -> Configure:
    """A rule: `bits`-bit weights and `activation_bits`-bit activations for `op` (its name in the library; "*": all)."""

    def configure(packer: Any) -> None:
        from ai_edge_quantizer import qtyping

        wide = qtyping.QuantGranularity.TENSORWISE if per_tensor else qtyping.QuantGranularity.CHANNELWISE
        packer.add_static_config(
            ".*",
            qtyping.TFLOperationName(op),
            activation_num_bits=activation_bits,
            weight_num_bits=bits,
            weight_granularity=wide,
        )

    return configure


def all_of(*rules: Configure) -> Configure:
    """The rules in order."""

    def configure(packer: Any) -> None:
        for rule in rules:
            rule(packer)

    return configure


def preload_quantizer() -> None:
    """Import ai-edge-quantizer (a quarter of a second) in a thread, while a native converter works in its process."""

    def load() -> None:
        with contextlib.suppress(ImportError):  # said where it is needed
            import ai_edge_quantizer.quantizer  # noqa: F401

    threading.Thread(target=load, name="import-quantizer", daemon=True).start()


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """What the library prints and logs goes into the buffer that is yielded."""
    noise = io.StringIO()
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(noise), contextlib.redirect_stderr(noise):
            yield noise
    finally:
        logging.disable(before)


def _one_line(error: BaseException, noise: str) -> str:
    lines = [line.strip() for line in (str(error) or noise).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
