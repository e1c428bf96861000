"""Keras and SavedModel to TFLite, inside the child process. Nothing here is imported by the parent.

The model's function is traced with batch 1, its variables are frozen to constants, and that graph is converted: a
clean graph without SHAPE and PACK, and several times faster than exporting a SavedModel on the way. With live variables
the converter writes a file whose weights are missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeloop.errors import MissingExtraError, UsageError

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
    """A model ready to be traced: `call(*inputs)` gives {output name: tensor}; specs are tf.TensorSpec, batch fixed."""

    call: Callable[..., dict[str, Any]]
    specs: Sequence[Any]
    versions: dict[str, str]
    notes: tuple[str, ...] = ()
    keep_alive: Any = None


def to_float(request: dict[str, Any]) -> dict[str, Any]:
    """Task "float": writes OUTPUT into `folder` and answers {versions, notes, seconds, inputs, outputs}."""
    stages = Stages()
    converter, loaded, outputs = _converter(request, stages)
    return _converted(converter, loaded, outputs, request, stages)


def to_int8(request: dict[str, Any]) -> dict[str, Any]:
    """Task "int8": TFLiteConverter's own full-integer quantization over the .npy files named in `samples`."""
    import numpy as np

    stages = Stages()
    converter, loaded, outputs = _converter(request, stages)
    import tensorflow as tf

    arrays = [np.load(path, mmap_mode="r", allow_pickle=False) for path in request["samples"]]

    def representative() -> Iterator[list[Any]]:
        for row in zip(*arrays, strict=True):
            yield [np.ascontiguousarray(x) for x in row]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return _converted(converter, loaded, outputs, request, stages)


def _converted(
    converter: Any, loaded: Loaded, outputs: list[str], request: dict[str, Any], stages: Stages
) -> dict[str, Any]:
    data: bytes = converter.convert()
    stages.done("convert")
    (Path(request["folder"]) / OUTPUT).write_bytes(data)
    return {
        "versions": loaded.versions,
        "notes": list(loaded.notes),
        "seconds": stages.seconds,
        "inputs": [str(spec.name) for spec in loaded.specs],
        "outputs": outputs,
    }


def _converter(request: dict[str, Any], stages: Stages) -> tuple[Any, Loaded, list[str]]:
    """Scan, load, trace and freeze; a TFLiteConverter over the frozen graph, and the names of its outputs."""
    source, trust_code = Path(request["source"]), bool(request["trust_code"])
    loaders: dict[str, Callable[[], Loaded]] = {
        "keras": lambda: _load_keras(source, request, trust_code, stages),
        "h5": lambda: _load_keras(source, request, trust_code, stages),
        "saved_model": lambda: _load_saved_model(source, request, trust_code, stages),
    }
    loaded = loaders[request["frontend"]]()
    stages.done("load")
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    concrete = tf.function(loaded.call, autograph=False).get_concrete_function(*loaded.specs)
    frozen = convert_variables_to_constants_v2(concrete)
    stages.done("trace")
    outputs = sorted(concrete.structured_outputs)  # the order in which TensorFlow flattens a dictionary
    return tf.lite.TFLiteConverter.from_concrete_functions([frozen]), loaded, outputs


def _sample_shape(request: dict[str, Any]) -> Sequence[int] | None:
    return request.get("shape") or request.get("sample_shape")


def _load_keras(source: Path, request: dict[str, Any], trust_code: bool, stages: Stages) -> Loaded:
    from edgeloop_converters.frontends.keras_models import load_keras

    return load_keras(source, request["frontend"], batch=request["batch"], shape=_sample_shape(request),
                      folder=Path(request["folder"]), trust_code=trust_code, stages=stages)  # fmt: skip


def _load_saved_model(source: Path, request: dict[str, Any], trust_code: bool, stages: Stages) -> Loaded:
    from edgeloop_converters.frontends.saved_models import load_saved_model

    return load_saved_model(source, request.get("signature"), batch=request["batch"], shape=_sample_shape(request),
                            trust_code=trust_code, stages=stages)  # fmt: skip


def import_tensorflow(feature: str, stages: Stages) -> Any:
    """TensorFlow, its import timed. Raises MissingExtraError."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise MissingExtraError(feature, "keras") from error
    stages.done("import")
    return tf


def fixed_spec(tf: Any, name: str, shape: Any, dtype: Any, batch: int, sample_shape: Sequence[int] | None) -> Any:
    """A TensorSpec without free dimensions. Raises UsageError when one remains."""
    dims = None if shape is None else [None if d is None or int(d) < 0 else int(d) for d in shape]
    if dims is not None and dims and dims[0] is None:
        dims[0] = batch
    if sample_shape is not None and dims is not None and len(sample_shape) == len(dims) - 1:
        dims[1:] = [given if d is None else d for d, given in zip(dims[1:], sample_shape, strict=True)]
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
