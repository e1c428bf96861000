"""ai-edge-quantizer behind one function: a float .tflite and rules in, the packed file out."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeloop.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from edgeloop_converters.assistant import Assistant
    from edgeloop_converters.calibration import Ranges

_LIBRARY_ERRORS = (ValueError, RuntimeError, KeyError, TypeError, IndexError, NotImplementedError, AssertionError)


@dataclass(frozen=True)
class Rule:
    """How an op is quantized; later rules win. op: its name in the library, "*" for all.

    kind: "static" (weights and activations), "dynamic", "weight-only" or "fp16". per_tensor: one scale per weight.
    """

    kind: str = "static"
    weight_bits: int = 8
    activation_bits: int = 8
    op: str = "*"
    per_tensor: bool = False


def pack(
    model: bytes, ranges: Ranges | None, rules: Sequence[Rule] = (Rule(),), assistant: Assistant | None = None
) -> bytes:
    """Quantize by the rules. ranges: None where activations stay float. assistant: a process to do it in; None: here.

    Raises UsageError, one line, when the library cannot do it, crashes there, or a range is missing; MissingExtraError
    without it.
    """
    limits = None if ranges is None else ranges.tensors
    if assistant is None:
        return _pack_here(model, limits, rules)
    from edgeloop_converters.assistant import Crashed

    asked = {"ranges": None if limits is None else dict(limits), "rules": [asdict(rule) for rule in rules]}
    try:
        return assistant.ask("pack", asked, model)[1]
    except Crashed as error:
        raise UsageError(f"ai-edge-quantizer cannot quantize this model: {error}") from error


def warm() -> None:
    """Import the library: a quarter of a second."""
    with _quiet():
        import ai_edge_quantizer.quantizer  # noqa: F401


def answer(asked: Mapping[str, Any], model: bytes) -> tuple[dict[str, Any], bytes]:
    """The duty "pack" of `assistant`."""
    return {}, _pack_here(model, asked["ranges"], [Rule(**rule) for rule in asked["rules"]])


def _pack_here(model: bytes, ranges: Mapping[str, tuple[float, float]] | None, rules: Sequence[Rule]) -> bytes:
    try:
        warm()
    except ImportError as error:
        raise MissingExtraError("quantization", "convert") from error
    from ai_edge_quantizer import quantizer

    measured = None if ranges is None else {
        name: {"min": np.array([[low]], np.float32), "max": np.array([[high]], np.float32)}
        for name, (low, high) in ranges.items()
    }  # fmt: skip
    with _quiet() as noise:
        try:
            packer = quantizer.Quantizer(model)
            for rule in rules:
                _RULES[rule.kind](packer, rule)
            result = packer.quantize(measured, enable_progress_bar=False, enable_progress_report=False)
        except _LIBRARY_ERRORS as error:
            raise UsageError(
                f"ai-edge-quantizer cannot quantize this model: {_one_line(error, noise.getvalue())}"
            ) from error
    if result.quantized_model is None:
        raise UsageError("ai-edge-quantizer gave no model")
    return bytes(result.quantized_model)


def _static(packer: Any, rule: Rule) -> None:
    from ai_edge_quantizer import qtyping

    packer.add_static_config(
        ".*",
        qtyping.TFLOperationName(rule.op),
        activation_num_bits=rule.activation_bits,
        weight_num_bits=rule.weight_bits,
        weight_granularity=qtyping.QuantGranularity.TENSORWISE
        if rule.per_tensor
        else qtyping.QuantGranularity.CHANNELWISE,
    )


def _dynamic(packer: Any, rule: Rule) -> None:
    packer.add_dynamic_config(".*", _operation(rule), num_bits=rule.weight_bits)


def _weight_only(packer: Any, rule: Rule) -> None:
    packer.add_weight_only_config(".*", _operation(rule), num_bits=rule.weight_bits)


def _fp16(packer: Any, rule: Rule) -> None:
    from ai_edge_quantizer import qtyping, recipe

    weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    how = qtyping.OpQuantizationConfig(
        weight_tensor_config=weights,
        compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    packer.update_quantization_recipe(".*", _operation(rule), how, algorithm_key=recipe.AlgorithmName.FLOAT_CASTING)


_RULES: Mapping[str, Callable[[Any, Rule], None]] = {
    "static": _static,
    "dynamic": _dynamic,
    "weight-only": _weight_only,
    "fp16": _fp16,
}


def _operation(rule: Rule) -> Any:
    from ai_edge_quantizer import qtyping

    return qtyping.TFLOperationName(rule.op)


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
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
