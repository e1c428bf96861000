"""A peer alone, as a whole process: read the samples, calibrate, quantize, write. Nothing of edgeloop is imported.

argv: "aeq" or "tflite", model (float .tflite with a signature; for "tflite" what TFLiteConverter starts from), .npz
with `x`, number of samples, where to write
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def main() -> None:
    kind, model, data, count, output = sys.argv[1:]
    with np.load(data) as archive:
        samples = archive["x"][: int(count)].astype(np.float32)[:, None]
    made = aeq(model, samples) if kind == "aeq" else tflite_converter(Path(model), samples)
    Path(output).write_bytes(made)


def aeq(model: str, samples: Any) -> bytes:
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    signatures = Interpreter(model_path=model).get_signature_list()
    key, (name, *_) = next((key, value["inputs"]) for key, value in signatures.items())
    packer = quantizer.Quantizer(model, recipe.static_wi8_ai8())
    measured = packer.calibrate({key: [{name: sample} for sample in samples]})
    return bytes(packer.quantize(measured).quantized_model)


def tflite_converter(source: Path, samples: Any) -> bytes:
    import tensorflow as tf

    if source.suffix == ".tflite":
        from tensorflow.lite.python.optimize.calibrator import Calibrator

        calibrator = Calibrator(source.read_bytes())
        return bytes(calibrator.calibrate_and_quantize(lambda: ([s] for s in samples), tf.int8, tf.int8, False))
    if source.suffix == ".h5":
        converter = tf.lite.TFLiteConverter.from_keras_model(tf.keras.models.load_model(source, compile=False))
    else:
        converter = tf.lite.TFLiteConverter.from_saved_model(str(source))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([s] for s in samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


if __name__ == "__main__":
    main()
