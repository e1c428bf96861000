"""What an interpreter's exceptions mean, as one line each with the next step. Pure: text in, error out."""

from __future__ import annotations

import re

from edgeloop.errors import DelegateError, EdgeloopError, RefusedError, UsageError
from edgeloop.runtime.delegates import DelegateSpec
from edgeloop.runtime.interpreter import RuntimeInfo
from edgeloop.runtime.plan import RanOn

EDGETPU_OP = "edgetpu-custom-op"
_BOILERPLATE = re.compile(
    r"Restored original execution plan after delegate application failure\.?"
    r"|See instructions: \S+|Failed to apply the default TensorFlow Lite delegate indexed at \d+\.?"
    r"|(TfLite\w+Delegate|Node number \d+ \([^)]*\)) failed to (prepare|invoke)\.?",
    re.IGNORECASE,
)


def useful(text: str, limit: int = 200) -> str:
    """The message without TFLite's boilerplate, on one line."""
    kept = [_BOILERPLATE.sub("", line).strip().removeprefix("ERROR: ") for line in text.splitlines()]
    line = "; ".join(part.rstrip(". ") for part in kept if part)
    line = line or " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def model_refused(name: str, text: str, spec: DelegateSpec, runtime: RuntimeInfo) -> EdgeloopError:
    """The interpreter would not take the model."""
    custom = re.search(r"unresolved custom op: (\S+?)\.?(\s|$)", text)
    if custom and custom[1] == EDGETPU_OP:
        return DelegateError(
            f"{name} is compiled for the Edge TPU ({EDGETPU_OP}) and delegate {spec} cannot run it",
            hint="use --delegate edgetpu, or the model from before the Edge TPU compiler (of a bundle: --variant int8)",
        )
    if "Select TensorFlow op" in text or (custom and custom[1].startswith("Flex")):
        return UsageError(
            f"{name} needs TensorFlow's own ops (Flex), which {runtime} does not have",
            hint="convert it again without SELECT_TF_OPS",
        )
    if custom:
        return UsageError(
            f"{name} needs the custom op {custom[1]}, which {runtime} does not have",
            hint="use a delegate that brings this op",
        )
    newer = re.search(
        r"(Didn't find op for builtin opcode '\S+' version '\d+'|Op builtin_code out of range: \d+)", text
    )
    if newer:
        return UsageError(
            f"{name} was made for a newer runtime than {runtime}: {newer[1]}", hint="update ai-edge-litert"
        )
    return RefusedError(
        f"{name} is not a usable .tflite: {useful(text)}", hint="is the file complete? convert it again"
    )


def delegate_refused(spec: DelegateSpec, text: str) -> DelegateError:
    """The delegate loaded, but would not take this model."""
    return DelegateError(
        f"delegate {spec} cannot run this model: {useful(text)}", hint="try the next delegate, for example xnnpack"
    )


def invoke_failed(text: str, ran_on: RanOn) -> DelegateError:
    """An inference failed."""
    return DelegateError(f"inference on {ran_on.ran} failed: {useful(text)}", hint="edgeloop doctor checks the device")
