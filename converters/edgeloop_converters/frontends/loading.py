"""What the loaders of the native frontends hand over, and what they load with. For the child process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeloop.errors import MissingExtraError, UsageError
from edgeloop_converters.frontends.given_shape import GivenShape
from edgeloop_converters.frontends.imports import importing
from edgeloop_converters.frontends.table import TENSORFLOW

OUTPUT = "out.tflite"


@dataclass
class Stages:
    """Seconds by stage, in the order they came."""

    seconds: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.perf_counter)

    def done(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(now - self._last, 3)
        self._last = now


@dataclass(frozen=True)
class Loaded:
    """A model ready to be traced: `call(*inputs)` gives {output name: tensor}; specs are tf.TensorSpec, batch fixed.

    output_order: names of the outputs as the model has them, where that is an order.
    """

    call: Callable[..., dict[str, Any]]
    specs: Sequence[Any]
    versions: dict[str, str]
    notes: tuple[str, ...] = ()
    keep_alive: Any = None
    output_order: tuple[str, ...] = ()


@dataclass(frozen=True)
class TorchModel:
    """A module ready to be converted, in eval mode and float32.

    example: its inputs, batch 1, by the module's own layout. names: of the inputs. keywords: inputs go in by name.
    """

    module: Any
    example: tuple[Any, ...]
    names: tuple[str, ...]
    keywords: bool = False
    notes: tuple[str, ...] = ()


def import_tensorflow(feature: str, stages: Stages) -> Any:
    """TensorFlow, with Keras imported too, its import timed. Raises MissingExtraError."""
    try:
        importing(TENSORFLOW).result()
        import tensorflow as tf
    except ImportError as error:
        raise MissingExtraError(feature, "keras") from error
    stages.done("import")
    return tf


def fixed_spec(tf: Any, name: str, shape: Any, dtype: Any, batch: int, given: GivenShape) -> Any:
    """A TensorSpec without free dimensions. Raises UsageError when one remains."""
    dims = None if shape is None else [None if d is None or int(d) < 0 else int(d) for d in shape]
    if dims is not None:
        dims = given.settle(name, dims, batch)
    if dims is None or None in dims:
        given.check_fits(name)
        raise UsageError(
            f"model input '{name}' has no fixed shape ({dims})",
            hint="say what it takes: --size 96x96 for a picture, else --shape 20x10 (without the batch)",
        )
    if not (tf.as_dtype(dtype).is_floating or tf.as_dtype(dtype).is_integer):
        raise UsageError(f"model input '{name}' takes {tf.as_dtype(dtype).name}, not numbers",
                         hint="let it begin behind that: with token ids, say")  # fmt: skip
    return tf.TensorSpec(dims, dtype, name=_plain_name(name))


def _plain_name(name: str) -> str:
    """A TensorFlow node name: letters, digits and underscores."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name.split(":")[0])
    return kept if kept[:1].isalnum() else f"input{kept}"
