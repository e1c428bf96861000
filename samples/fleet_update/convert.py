"""Three versions of one model, as signed bundles: two good ones, and one that is no good where it runs.

    python samples/fleet_update/convert.py -o build/fleet_update

Version 3 was converted with another contract: its own golden samples hold, but no picture of the devices' cameras fits
it.
"""

from __future__ import annotations

import argparse
import platform
from importlib import resources
from pathlib import Path

import cv2
import numpy as np

import edgeloop as el
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop_converters.demo.digits import load_split

LABELS = OutputSpec("classification", tuple("0123456789"))
PICTURES = Contract((InputSpec(name="image", kind="image", size=(8, 8), color="gray", std=(255.0,)),), LABELS)
ARRAYS = Contract((InputSpec(name="image", kind="tensor", shape=(8, 8, 1)),), LABELS)
TARGETS = {"aarch64": "generic-aarch64", "armv7l": "generic-armv7"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/fleet_update"))
    parser.add_argument("--target", default=TARGETS.get(platform.machine(), "generic-x86-64"))
    args = parser.parse_args()
    folder: Path = args.output
    folder.mkdir(parents=True, exist_ok=True)

    split = load_split()
    np.savez_compressed(folder / "pictures.npz", x=split.train_images, y=split.train_labels)
    (folder / "camera").mkdir(exist_ok=True)  # what the devices see
    for number, image in enumerate(split.held_out_images[:100]):
        cv2.imwrite(str(folder / "camera" / f"{number:03}.png"), image)
    arrays = (split.train_images[..., None] / 255).astype(np.float32)
    np.savez_compressed(folder / "arrays.npz", x=arrays, y=split.train_labels)

    with resources.as_file(resources.files("edgeloop_converters.demo") / "digits.tflite") as model:
        for version, data, contract, samples in (
            (1, "pictures.npz", PICTURES, 50),
            (2, "pictures.npz", PICTURES, 300),
            (3, "arrays.npz", ARRAYS, 300),
        ):
            result = el.convert(
                model, target=args.target, data=folder / data, contract=contract, calibration_samples=samples,
                name="fleet", version=version,
            )  # fmt: skip
            print(result.bundle.save(folder / f"fleet-{version}.bundle"))


if __name__ == "__main__":
    main()
