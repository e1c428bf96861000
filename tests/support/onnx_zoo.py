"""Small ONNX files written node by node."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def write_onnx(
    path: Path,
    nodes: Sequence[Any],
    *,
    shape: Sequence[int | str] = (1, 3, 8, 8),
    opset: int = 17,
    domains: Sequence[str] = (),
    constants: dict[str, np.ndarray] | None = None,
) -> Path:
    """A model from input `x` to output `y`. nodes: of `onnx.helper.make_node`."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initializer=[numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *[helper.make_opsetid(domain, 1) for domain in domains]]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    return path


def conv_weights() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
