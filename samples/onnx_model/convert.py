"""Train a small network, write it as ONNX, and convert that file to a signed int8 bundle.

python samples/onnx_model/convert.py -o build/onnx_model
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import warnings
from pathlib import Path

import numpy as np

import edgeloop as el
from edgeloop_converters.demo.digits import load_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/onnx_model"))
    parser.add_argument("--target", default="rpi4")
    parser.add_argument("--epochs", type=int, default=6)
    args = parser.parse_args()
    needed = ("torch", "litert_torch", "onnx", "onnx2torch")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(f"this sample needs {' and '.join(missing)} -> scripts/setup --torch")
    folder: Path = args.output
    folder.mkdir(parents=True, exist_ok=True)
    make_inputs(folder, args.epochs)

    result = el.convert(
        folder / "digits.onnx",
        target=args.target,
        data=folder / "calibration.npz",
        evaluate=folder / "held_out.npz",
        goals=el.Goals(max_drop=0.01),
        name="digits-onnx",
    )
    if not result.gate.passed:
        raise SystemExit("; ".join(result.gate.reasons))
    bundle = result.bundle.save(folder / "digits-onnx.bundle")
    result.write_report(folder)
    metrics = result.variants[0].quality.metrics
    print(f"{bundle}: float {metrics.float_:.2%}, int8 {metrics.this:.2%}, agreement {metrics.agreement:.2%}")


def make_inputs(folder: Path, epochs: int) -> None:
    """Write `digits.onnx`, which stands for a file that came from anywhere, and the data."""
    from model import export, train

    warnings.filterwarnings("ignore", category=DeprecationWarning)  # of the exporter that writes opset 17
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    split = load_split()
    names = np.array(list("0123456789"))
    np.savez_compressed(folder / "calibration.npz", x=split.train_images, y=split.train_labels, label_names=names)
    np.savez_compressed(folder / "held_out.npz", x=split.held_out_images, y=split.held_out_labels, label_names=names)
    export(train(split.train_images, split.train_labels, epochs), folder / "digits.onnx")


if __name__ == "__main__":
    main()
