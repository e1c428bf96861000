"""Runs inside the environment of onnx2tf, which has no edgeloop: `python -I onnx2tf_run.py request.json`.

The request: {model, folder, keep: [inputs that keep their order of dimensions], inputs: .npz of example inputs}. Into
`folder` go `model_float32.tflite` and `expected.npz`, onnxruntime's outputs for the inputs, in ONNX's order. Files that
onnx2tf would download are put into the current folder first.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    import numpy as np
    import onnx2tf
    import onnxruntime

    request = json.loads(Path(sys.argv[1]).read_text())
    # It feeds pictures to the model to compare; from the network, where this file is not there.
    pictures = np.random.default_rng(0).random((20, 128, 128, 3), np.float32)
    np.save("calibration_image_sample_data_20x128x128x3_float32.npy", pictures)
    session = onnxruntime.InferenceSession(request["model"], providers=["CPUExecutionProvider"])
    with np.load(request["inputs"]) as given:
        expected = session.run(None, {name: given[name] for name in given.files})
    np.savez(Path(request["folder"]) / "expected.npz", *expected)
    onnx2tf.convert(
        input_onnx_file_path=request["model"],
        output_folder_path=request["folder"],
        output_signaturedefs=True,
        batch_size=1,
        keep_shape_absolutely_input_names=request["keep"] or None,
        enable_rnn_unroll=True,
        non_verbose=True,
    )


if __name__ == "__main__":
    main()
