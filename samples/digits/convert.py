"""Convert the digits model to a signed int8 bundle through the Python API.

    python samples/digits/convert.py -o build/digits

Takes `digits.keras` from the output folder where `train.py` has put it there, else the float model that ships with
edgeloop.
"""

from __future__ import annotations

import argparse
import shutil
from importlib import resources
from pathlib import Path

import numpy as np

import edgeloop as el
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop_converters.demo.digits import load_split

CONTRACT = Contract(
    (InputSpec(name="image", kind="image", size=(8, 8), color="gray", std=(255.0,)),),
    OutputSpec("classification", tuple("0123456789")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/digits"))
    parser.add_argument("--target", default="rpi4")
    args = parser.parse_args()
    folder: Path = args.output
    folder.mkdir(parents=True, exist_ok=True)

    model = folder / "digits.keras"
    if not model.is_file():
        model = folder / "digits.tflite"
        with resources.as_file(resources.files("edgeloop_converters.demo") / "digits.tflite") as packaged:
            shutil.copyfile(packaged, model)

    split = load_split()
    np.savez_compressed(folder / "calibration.npz", x=split.train_images, y=split.train_labels)
    np.savez_compressed(folder / "held_out.npz", x=split.held_out_images, y=split.held_out_labels)

    result = el.convert(
        model,
        target=args.target,
        data=folder / "calibration.npz",
        evaluate=folder / "held_out.npz",
        contract=CONTRACT,
        goals=el.Goals(max_drop=0.01),
        name="digits",
    )
    if not result.gate.passed:
        raise SystemExit("; ".join(result.gate.reasons))
    bundle = result.bundle.save(folder / "digits.bundle")
    result.write_report(folder)
    metrics = result.variants[0].quality.metrics
    print(f"{bundle}: float {metrics.float_:.2%}, int8 {metrics.this:.2%}, agreement {metrics.agreement:.2%}")


if __name__ == "__main__":
    main()
