"""What a native converter's exception means, in one line."""

from __future__ import annotations

import re

from edgeloop.errors import install_hint

# MLIR: error: 'tf.Erf' op is neither a custom op nor a flex op
_NO_COUNTERPART = re.compile(r"'?tf\.(\w+)'? op is neither a custom op nor a flex op")
_NOISE = re.compile(r"^(Traceback|File |\s*\^|loc\(|<unknown>:0|WARNING|INFO|I0000|E0000|W0000)")
_LINE = 300


def explain(error: BaseException) -> tuple[str, str | None]:
    """(message, hint) for an exception of TensorFlow, Keras or h5py; the message is one line of at most 300 signs."""
    text = str(error)
    ops = sorted(set(_NO_COUNTERPART.findall(text)))
    if ops:
        some = ", ".join(ops[:4]) + (" ..." if len(ops) > 4 else "")
        return f"TFLite has no counterpart for {some}", "replace it in the model by ops that TFLite knows"
    if isinstance(error, ModuleNotFoundError):
        return f"the package '{error.name}' is missing", install_hint("keras")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _NOISE.match(line.strip())]
    first = lines[0] if lines else "no further message"
    kind = type(error).__name__
    return (first if kind in ("ValueError", "ConverterError", "RuntimeError") else f"{kind}: {first}")[:_LINE], None


# litert-torch: "NotImplementedError: No lowering for aten.fft_rfft2.default", torch: "... aten.xyz.default ..."
_ATEN = re.compile(r"\b(?:torch\.ops\.)?(aten\.\w+(?:\.\w+)?)")
_DYNAMIC = re.compile(r"data-dependent|Dynamo|dynamic control flow|GuardOnDataDependent", re.IGNORECASE)
_LOWERING = re.compile(r"[Ll]ower|[Dd]ecompos|not implemented|[Uu]nsupported|legaliz", re.ASCII)


def explain_torch(error: BaseException) -> tuple[str, str | None]:
    """(message, hint) for what torch.export or litert-torch raised; the message is one line."""
    text = str(error)
    ops = sorted(set(_ATEN.findall(text)))
    if ops and _LOWERING.search(text):
        some = ", ".join(ops[:4]) + (" ..." if len(ops) > 4 else "")
        return f"litert-torch has no counterpart for {some}", "replace it in the model by ops that TFLite knows"
    if _DYNAMIC.search(text):
        _, hint = explain(error)
        message = "the model's path depends on the values that go through it, so it cannot be traced"
        return message, hint or "replace Python branches on tensors by torch.where, or export fixed parts"
    return explain(error)
