"""TensorFlow, where it is needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from edgeloop.errors import MissingExtraError
from edgeloop_converters.importing import without_garbage_collection


def import_tensorflow(feature: str = "training") -> Any:
    """The module. Its start-up chatter is turned off unless the user's environment asks for it. Raises
    MissingExtraError."""
    for name in ("TF_CPP_MIN_LOG_LEVEL", "ABSL_MIN_LOG_LEVEL"):
        os.environ.setdefault(name, "3")
    quiet = "tensorflow" not in sys.modules and os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"
    try:
        with without_garbage_collection(), _muted() if quiet else nullcontext():
            import tensorflow as tf
    except ImportError as error:
        raise MissingExtraError(feature, "keras") from error
    return tf


@contextmanager
def _muted() -> Iterator[None]:
    """What native code writes to stderr is dropped: TensorFlow 2.21 heeds no log level before it is loaded."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def bfloat16_note(tf: Any, cpu_info: Path = Path("/proc/cpuinfo")) -> str:
    """What to say to who asks for bfloat16 on hardware without it; "" where it has it, or that cannot be told."""
    if tf.config.list_physical_devices("GPU"):
        return ""
    try:
        flags = cpu_info.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    if "flags" not in flags or any(name in flags for name in ("amx_bf16", "avx512_bf16", "avx_ne_convert")):
        return ""
    return "this CPU has no bfloat16 instructions: training in bfloat16 is slower here than in float32"
