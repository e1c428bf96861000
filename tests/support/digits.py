"""A signed int8 bundle of the packaged digits model, made by the real pipeline, and its held-out scans."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np

from edgeloop.contract import Contract
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.demo.loop import CONTRACT
from edgeloop_converters.pipeline import convert
from edgeloop_converters.recipe import Recipe


def save_held_out(folder: Path, as_arrays: bool = False) -> Path:
    """The 597 held-out scans as x (uint8 [n, 8, 8], as_arrays: [n, 8, 8, 1]) and y."""
    split = load_split()
    path = folder / "held_out.npz"
    images = split.held_out_images[..., None] if as_arrays else split.held_out_images
    np.savez_compressed(path, x=images, y=split.held_out_labels)
    return path


def make_digits_bundle(
    folder: Path, name: str = "digits", target: str = "generic-x86-64", contract: Contract = CONTRACT
) -> Path:
    """NAME.bundle in `folder`, signed with the key of the current EDGELOOP_HOME."""
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / f"{name}.tflite"
    model.write_bytes((resources.files("edgeloop_converters.demo") / "digits.tflite").read_bytes())
    data = save_held_out(folder, as_arrays=contract.inputs[0].kind == "tensor")
    recipe = Recipe(source=str(model), target=target, data=str(data), contract=contract, name=name, effort="fast")
    return convert(recipe).bundle.save(folder / f"{name}.bundle")
