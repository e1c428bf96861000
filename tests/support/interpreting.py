"""A bare interpreter run for tests of .tflite files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def interpreter(model: bytes) -> Any:
    """LiteRT's interpreter on `model`, tensors allocated."""
    from ai_edge_litert.interpreter import Interpreter

    result = Interpreter(model_content=model, num_threads=1)
    result.allocate_tensors()
    return result


def random_input(details: dict[str, Any], random: np.random.Generator) -> Array:
    """Floats in 0..1, or any code of an integer type."""
    shape, dtype = details["shape"], np.dtype(details["dtype"])
    if dtype.kind == "f":
        values: Array = random.random(shape)
    elif dtype.kind == "b":
        values = random.integers(0, 2, shape)
    else:
        limits = np.iinfo(dtype)
        values = random.integers(max(int(limits.min), -128), min(int(limits.max), 255) + 1, shape)
    return values.astype(dtype)


def run(model: bytes, seed: int = 0, inputs: Sequence[Array] | None = None) -> list[Array]:
    """Outputs of one inference on `inputs`, or on seeded random ones."""
    session = interpreter(model)
    random = np.random.default_rng(seed)
    for index, details in enumerate(session.get_input_details()):
        value = random_input(details, random) if inputs is None else inputs[index]
        session.set_tensor(details["index"], value)
    session.invoke()
    return [np.array(session.get_tensor(details["index"])) for details in session.get_output_details()]
