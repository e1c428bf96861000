"""ONNX to TFLite by onnx2tf, which runs in an environment of its own; called inside the child process.

What comes out is compared with onnxruntime, which that environment holds; its outputs tell which output is which.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop_converters.frontends import onnx2tf_env
from edgeloop_converters.frontends.loading import OUTPUT, Stages

Array = npt.NDArray[Any]

LARGEST_ERROR = 0.02
_SCRIPT = Path(__file__).with_name("onnx2tf_run.py")
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_OP = re.compile(r"onnx_op_name: *(\S+)")
_NOISE = re.compile(r"^(Traceback|File |[WEI]0000|WARNING|INFO|\^|~)")
_PR_SET_PDEATHSIG = 1


def convert(
    proto: Any, examples: dict[str, Array], moved: frozenset[int], request: dict[str, Any], stages: Stages
) -> dict[str, Any]:
    """proto: the ONNX model, whose inputs `examples` has by name, batch 1; those at `moved` become channels-last.

    Writes OUTPUT; answers as `native.to_float` does. Raises UsageError with onnx2tf's own words.
    """
    import onnx

    source, folder = str(request["source"]), Path(request["folder"])
    onnx2tf_env.check_ready()
    work = folder / "onnx2tf"
    work.mkdir()
    nodes = {}
    for i, node in enumerate(proto.graph.node):
        nodes[f"node_{i}"] = f"{node.op_type} (node '{(node.name or node.output[0])[:60]}')"
        node.name = f"node_{i}"
    inputs = _plain_inputs(proto, examples)
    onnx.save(proto, str(work / "model.onnx"))
    np.savez(work / "inputs.npz", **inputs)  # type: ignore[arg-type]
    keep = [name for i, name in enumerate(inputs) if i not in moved]
    asked = {"model": str(work / "model.onnx"), "folder": str(work), "keep": keep, "inputs": str(work / "inputs.npz")}
    (work / "request.json").write_text(json.dumps(asked))
    log = _run(work)
    made = work / "model_float32.tflite"
    if not made.is_file():
        raise UsageError(f"{source}: onnx2tf cannot convert it: {_why(log, nodes)}", hint=_HINT)
    stages.done("convert")
    graph = Graph.read(made)
    with np.load(work / "expected.npz") as kept:
        expected = [kept[name] for name in kept.files]
    names = list(examples)
    order = _inputs_in_order(graph, list(inputs))
    outputs, worst = _compared(made.read_bytes(), [_edge(examples[names[i]], i in moved) for i in order], expected)
    stages.done("compare")
    if worst > LARGEST_ERROR:
        raise UsageError(f"{source}: what onnx2tf made is off by {worst:.1%} of ONNX's largest output", hint=_HINT)
    (folder / OUTPUT).write_bytes(made.read_bytes())
    original = [value.name for value in proto.graph.output]
    return {
        "versions": onnx2tf_env.versions(),
        "notes": [f"converted by onnx2tf {onnx2tf_env.VERSION}: outputs within {worst:.0e} of onnxruntime's"],
        "seconds": stages.seconds,
        "inputs": [names[i] for i in order],
        "outputs": [original[i] for i in outputs],
    }


_HINT = "give the PyTorch or Keras model it was made from"


def _plain_inputs(proto: Any, examples: dict[str, Array]) -> dict[str, Array]:
    """Inputs renamed to `in_0`, `in_1`, ... and fixed at the examples' shapes: TensorFlow takes few names."""
    renamed = {name: f"in_{i}" for i, name in enumerate(examples)}
    graph = proto.graph
    for value in graph.input:
        if value.name in renamed:
            dims = value.type.tensor_type.shape.dim
            for dim, size in zip(dims, examples[value.name].shape, strict=True):
                dim.Clear()
                dim.dim_value = int(size)
            value.name = renamed[value.name]
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    # Shapes inside may still be those of a free batch.
    del graph.value_info[:]
    return {renamed[name]: x for name, x in examples.items()}


def _edge(x: Array, is_moved: bool) -> Array:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if is_moved else x


def _run(work: Path) -> str:
    """Run onnx2tf; what it printed. It dies with this process."""

    def die_with_parent() -> None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    python = onnx2tf_env.env_python()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment = {**kept, "PATH": f"{python.parent}{os.pathsep}{kept.get('PATH', '')}"}  # it calls onnxsim
    done = subprocess.run(
        [str(python), "-I", str(_SCRIPT), "request.json"], cwd=work, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", check=False, preexec_fn=die_with_parent,
    )  # fmt: skip
    return _COLOR.sub("", done.stdout)


def _why(log: str, nodes: dict[str, str]) -> str:
    """The op that stopped it, where it is named, and the last line of the log that says something."""
    lines = [line.strip() for line in log.splitlines() if line.strip() and not _NOISE.match(line.strip())]
    told = [line for line in lines if "Error" in line or "not yet implemented" in line or "not supported" in line]
    last = (told or lines or ["no further message"])[-1].removeprefix("ERROR: ")[:200]
    found = _OP.findall(log)
    op = nodes.get(found[-1].rpartition("/")[2], found[-1]) if found else ""
    return f"{op}: {last}" if op else last


def _inputs_in_order(graph: Graph, names: Sequence[str]) -> list[int]:
    """For each input of the .tflite, which of `names` it is, by its signature."""
    signature = graph.ensure_signature()
    by_tensor = {index: name for name, index in signature.inputs.items()}
    found = [by_tensor.get(index, "") for index in graph.main.inputs]
    return [names.index(name) if name in names else i for i, name in enumerate(found)]


def _compared(model: bytes, inputs: Sequence[Array], expected: Sequence[Array]) -> tuple[list[int], float]:
    """(for each output of the .tflite which of `expected` it is, largest difference relative to that one's largest
    value). Maps may come out channels-last."""
    from edgeloop.runtime import open_session

    with open_session(model, delegate="cpu") as session:
        for i, x in enumerate(inputs):
            session.set_input(i, x.astype(session.inputs[i].dtype, copy=False))
        session.invoke()
        got = [session.output(i) for i in range(len(session.outputs))]
    left, order, worst = list(range(len(expected))), [], 0.0
    for y in got:
        errors = {i: _distance(y, expected[i]) for i in left}
        best = min(errors, key=lambda i: errors[i], default=-1)
        if best < 0 or errors[best] == float("inf"):
            return list(range(len(got))), float("inf")
        left.remove(best)
        order.append(best)
        worst = max(worst, errors[best])
    return order, worst


def _distance(ours: Array, theirs: Array) -> float:
    if ours.size != theirs.size:
        return float("inf")
    readings = [theirs]
    if theirs.ndim in (3, 4, 5):
        readings.append(np.moveaxis(theirs, 1, -1))
    scale = max(float(np.abs(theirs).max()), 1e-6) if theirs.size else 1.0
    fitting = [r for r in readings if r.shape == ours.shape] or [r.reshape(ours.shape) for r in readings[:1]]
    return min(float(np.abs(ours.astype(np.float64) - r).max()) / scale for r in fitting) if theirs.size else 0.0
