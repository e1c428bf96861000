"""Keras and SavedModel to TFLite, inside the child process. Nothing here is imported by the parent.

The model's function is traced with batch 1, its variables are frozen to constants (`freezing`), and that graph is
converted: a clean graph without SHAPE and PACK, and several times faster than exporting a SavedModel on the way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeloop.errors import MissingExtraError, UsageError
from edgeloop_converters.frontends.given_shape import GivenShape

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


def to_float(request: dict[str, Any]) -> dict[str, Any]:
    """Task "float": writes OUTPUT into `folder` and answers {versions, notes, seconds, inputs, outputs}."""
    from edgeloop_converters.frontends.freezing import freeze, to_tflite

    stages = Stages()
    loaded = _loaded(request, stages)
    concrete = _traced(loaded)
    frozen = freeze(concrete)
    answer = _answer(loaded, concrete)
    del loaded, concrete  # and with them the model: the constants hold its weights now
    stages.done("trace")
    data = to_tflite(frozen)
    return _written(data, answer, request, stages)


def to_int8(request: dict[str, Any]) -> dict[str, Any]:
    """Task "int8": TFLiteConverter's own full-integer quantization over the .npy files named in `samples`."""
    import numpy as np

    stages = Stages()
    loaded = _loaded(request, stages)
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    concrete = _traced(loaded)
    # With live variables this converter writes a file whose weights are missing.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([convert_variables_to_constants_v2(concrete)])
    stages.done("trace")
    arrays = [np.load(path, mmap_mode="r", allow_pickle=False) for path in request["samples"]]

    def representative() -> Iterator[list[Any]]:
        for row in zip(*arrays, strict=True):
            yield [np.ascontiguousarray(x) for x in row]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return _written(converter.convert(), _answer(loaded, concrete), request, stages)


def _written(data: bytes, answer: dict[str, Any], request: dict[str, Any], stages: Stages) -> dict[str, Any]:
    stages.done("convert")
    (Path(request["folder"]) / OUTPUT).write_bytes(data)
    return {**answer, "seconds": stages.seconds}


def _answer(loaded: Loaded, concrete: Any) -> dict[str, Any]:
    return {
        "versions": loaded.versions,
        "notes": list(loaded.notes),
        "inputs": [str(spec.name) for spec in loaded.specs],
        # The order in which TensorFlow flattens a dictionary.
        "outputs": sorted(concrete.structured_outputs),
        "output_order": list(loaded.output_order),
    }


def _loaded(request: dict[str, Any], stages: Stages) -> Loaded:
    """Scan and load."""
    source, trust_code = Path(request["source"]), bool(request["trust_code"])
    loaders: dict[str, Callable[[], Loaded]] = {
        "keras": lambda: _load_keras(source, request, trust_code, stages),
        "h5": lambda: _load_keras(source, request, trust_code, stages),
        "saved_model": lambda: _load_saved_model(source, request, trust_code, stages),
    }
    loaded = loaders[request["frontend"]]()
    stages.done("load")
    return loaded


def _traced(loaded: Loaded) -> Any:
    import tensorflow as tf

    return tf.function(loaded.call, autograph=False).get_concrete_function(*loaded.specs)


def _load_keras(source: Path, request: dict[str, Any], trust_code: bool, stages: Stages) -> Loaded:
    from edgeloop_converters.frontends.keras_models import load_keras

    return load_keras(source, request["frontend"], batch=request["batch"], shape=GivenShape(request),
                      folder=Path(request["folder"]), trust_code=trust_code, stages=stages)  # fmt: skip


def _load_saved_model(source: Path, request: dict[str, Any], trust_code: bool, stages: Stages) -> Loaded:
    from edgeloop_converters.frontends.saved_models import load_saved_model

    return load_saved_model(source, request.get("signature"), batch=request["batch"], shape=GivenShape(request),
                            trust_code=trust_code, stages=stages)  # fmt: skip


def import_tensorflow(feature: str, stages: Stages) -> Any:
    """TensorFlow, its import timed. Raises MissingExtraError."""
    try:
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
        raise UsageError(
            f"model input '{name}' has no fixed shape ({dims})",
            hint="say what it takes: --size 96x96 for a picture, else --shape 20x10 (without the batch)",
        )
    if not (tf.as_dtype(dtype).is_floating or tf.as_dtype(dtype).is_integer):
        raise UsageError(f"model input '{name}' takes {tf.as_dtype(dtype).name}, not numbers")
    return tf.TensorSpec(dims, dtype, name=_plain_name(name))


def _plain_name(name: str) -> str:
    """A TensorFlow node name: letters, digits and underscores."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name.split(":")[0])
    return kept if kept[:1].isalnum() else f"input{kept}"
