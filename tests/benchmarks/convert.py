"""`edgeloop convert` to an evaluated, signed bundle against a plain TFLiteConverter script that does neither.

Bounds from the design: from .h5 at most 1.0x of the script; from a float .tflite with --effort fast at most 0.2x.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from _timing import interleaved_seconds, print_ratio, shared_data, unpack_cifar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    models = shared_data() / "models" / "mlperf_tiny"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        train, test = unpack_cifar(folder, "train"), unpack_cifar(folder, "test")
        edgeloop = [sys.executable, "-m", "edgeloop.cli", "convert"]
        data = ["--data", str(train), "--eval", str(test), "--target", "rpi4", "--max-drop", "1pt", "--json"]
        script = str(Path(__file__).with_name("_plain_converter.py"))
        commands = {
            "h5": [*edgeloop, str(models / "pretrainedResnet.h5"), *data, "-o", str(folder / "a.bundle")],
            "script 512": [sys.executable, script, str(models / "pretrainedResnet.h5"), str(train), "512", scratch],
            "tflite fast": [
                *edgeloop, str(models / "pretrainedResnet.tflite"), *data, "--effort", "fast",
                "-o", str(folder / "b.bundle"),
            ],
            "script 100": [sys.executable, script, str(models / "pretrainedResnet.h5"), str(train), "100", scratch],
        }  # fmt: skip
        seconds = interleaved_seconds(commands, runs=runs, environment={"EDGELOOP_HOME": str(folder / "home")})
    print_ratio("convert .h5, 512 calibration + 5,000 evaluated", seconds["h5"], seconds["script 512"], "s")
    print_ratio(
        "convert .tflite --effort fast, 100 + 1,000 images",
        seconds["tflite fast"],
        seconds["script 100"],
        "s",
    )


if __name__ == "__main__":
    main()
