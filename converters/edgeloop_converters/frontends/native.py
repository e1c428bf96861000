"""Keras and SavedModel to TFLite, inside the child process. Nothing here is imported by the parent.

The model's function is traced with batch 1, its variables are frozen to constants (`freezing`), and that graph is
converted: a clean graph without SHAPE and PACK, and several times faster than exporting a SavedModel on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edgeloop_converters.frontends.given_shape import GivenShape
from edgeloop_converters.frontends.loading import OUTPUT, Loaded, Stages


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
    if request.get("fused"):  # freezing first would dissolve the function that the kernel is recognized by
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], loaded.keep_alive)
    else:
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
                      folder=Path(request["folder"]), trust_code=trust_code, stages=stages,
                      fused=bool(request.get("fused")))  # fmt: skip


def _load_saved_model(source: Path, request: dict[str, Any], trust_code: bool, stages: Stages) -> Loaded:
    from edgeloop_converters.frontends.saved_models import load_saved_model

    return load_saved_model(source, request.get("signature"), batch=request["batch"], shape=GivenShape(request),
                            trust_code=trust_code, stages=stages)  # fmt: skip
