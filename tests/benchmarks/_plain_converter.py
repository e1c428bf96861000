"""The other side of convert.py: what people write with TFLiteConverter. Float and int8, no evaluation, no bundle.

argv: model.h5, folder of class folders, number of calibration images, output folder
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import cv2
import numpy as np
import tensorflow as tf

source, images, count, output = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
model = tf.keras.models.load_model(source, compile=False)
(output / "float.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())

paths = sorted(images.rglob("*.jpg"))
chosen = [paths[i] for i in np.random.default_rng(0).choice(len(paths), count, replace=False)]


def representative_dataset():
    for path in chosen:
        yield [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)[None].astype(np.float32)]


converter = tf.lite.TFLiteConverter.from_keras_model(model)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = representative_dataset
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = converter.inference_output_type = tf.int8
(output / "int8.tflite").write_bytes(converter.convert())
