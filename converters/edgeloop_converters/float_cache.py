"""Float models kept on this host by hash, so that a bundle can be compared with its float model on other data later."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from edgeloop import paths
from edgeloop.bundle.files import write_atomically

_SHA256 = re.compile(r"[0-9a-f]{64}")


def _path(sha256: str) -> Path:
    return paths.cache_dir() / "float" / f"{sha256}.tflite"


def keep_float_model(model: bytes) -> str:
    """Keep the model; its SHA-256. A cache that cannot be written is not an error: `load_float_model` finds nothing."""
    sha256 = hashlib.sha256(model).hexdigest()
    path = _path(sha256)
    try:
        if not path.is_file() or path.stat().st_size != len(model):
            write_atomically(path, model)
    except OSError:
        pass
    return sha256


def load_float_model(sha256: object) -> bytes | None:
    """The model of that hash, or None when it is not here (or no longer what its name says)."""
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        return None
    try:
        model = _path(sha256).read_bytes()
    except OSError:
        return None
    return model if hashlib.sha256(model).hexdigest() == sha256 else None
