"""TensorFlow, where it is needed."""

from __future__ import annotations

import os
from typing import Any

from edgeloop.errors import MissingExtraError
from edgeloop_converters.importing import without_garbage_collection


def import_tensorflow(feature: str = "training") -> Any:
    """The module. Its start-up chatter is turned off unless the user's environment asks for it. Raises
    MissingExtraError."""
    for name in ("TF_CPP_MIN_LOG_LEVEL", "ABSL_MIN_LOG_LEVEL"):
        os.environ.setdefault(name, "3")
    try:
        with without_garbage_collection():
            import tensorflow as tf
    except ImportError as error:
        raise MissingExtraError(feature, "keras") from error
    return tf
