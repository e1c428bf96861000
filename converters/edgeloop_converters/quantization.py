"""Float .tflite and ranges in, int8 .tflite out, verified. ai-edge-quantizer packs; TFLiteConverter for comparison."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import UsageError
from edgeloop.graph import Graph, Op, Subgraph
from edgeloop.progress import Progress, SilentProgress
from edgeloop_converters.aeq import Rule, pack
from edgeloop_converters.calibration import Ranges
from edgeloop_converters.io_names import unread_inputs
from edgeloop_converters.op_versions import set_int8_versions

if TYPE_CHECKING:
    from edgeloop_converters.assistant import Assistant
    from edgeloop_converters.passes.codes import Refinement

Array = npt.NDArray[Any]

ENGINES = ("aeq", "tflite")

_BORDERS = frozenset({"QUANTIZE", "DEQUANTIZE"})


@dataclass(frozen=True)
class Quantized:
    """float_ops: ops that stayed float, by builtin name (empty: all int8). notes: what the user should know."""

    tflite: bytes
    scheme: str = "int8"
    float_ops: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def quantize_int8(
    model: bytes,
    ranges: Ranges,
    *,
    fully_connected_per_tensor: bool = False,
    refinement: Refinement | None = None,
    assistant: Assistant | None = None,
    progress: Progress | None = None,
) -> Quantized:
    """Static int8 weights (per channel) and activations, int8 input and output; checked afterwards.

    fully_connected_per_tensor: one scale per FULLY_CONNECTED weight, which the Edge TPU compiler wants. refinement:
    weights and biases to put over the packed ones; `ranges` are meant to be the refinement's. assistant: for
    `aeq.pack`. Raises UsageError when the quantizer cannot do it or a range is missing.
    """
    check_no_loops(Graph.read(model))
    with (progress or SilentProgress()).step("quantizing"):
        rules = [Rule()]
        if fully_connected_per_tensor:
            rules.append(Rule(op="FULLY_CONNECTED", per_tensor=True))
        graph = Graph.read(pack(model, ranges, rules, assistant))
        floats = float_ops(graph)
        _check_borders(graph, ranges)
        set_int8_versions(graph)
        if refinement is not None:
            from edgeloop_converters.passes.codes import put_codes

            put_codes(graph, Graph.read(model), refinement.weights, refinement.biases)
        return Quantized(graph.write(), float_ops=floats, notes=_notes(floats))


def quantize_int8_tflite(
    source: Path,
    samples: Iterable[Array | Sequence[Array]],
    *,
    trust_code: bool = False,
    signature: str | None = None,
    shape: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    sample_shape: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    fused: bool = False,
    progress: Progress | None = None,
) -> Quantized:
    """`--engine tflite`: TFLiteConverter's own int8 from the source model, in a child process.

    samples: float model inputs [1, ...], as `model_inputs` gives them. shape, sample_shape: see `ConversionOptions`.
    fused: long LSTMs of Keras 2 by TFLite's own kernel. Raises UsageError for a .tflite source.
    """
    from edgeloop_converters.frontends.conversion import ConversionOptions, start_native
    from edgeloop_converters.frontends.floats import name_borders
    from edgeloop_converters.frontends.table import FRONTENDS, detect

    frontend = detect(source)
    if not FRONTENDS[frontend].tflite_engine:
        raise UsageError(
            f"{source}: TFLiteConverter cannot start from a {FRONTENDS[frontend].title}",
            hint="leave --engine at aeq, or give the Keras file or SavedModel",
        )
    arrays = _columns(samples)
    with (progress or SilentProgress()).step("quantizing with TFLiteConverter"), _npy_files(arrays) as paths:
        options = ConversionOptions(trust_code=trust_code, signature=signature, shape=shape, sample_shape=sample_shape)
        child = start_native("int8", source, frontend, options, samples=[str(p) for p in paths], fused=fused)
        with child:
            answer = child.result()
            graph = Graph.read((child.folder / "out.tflite").read_bytes())
    graph.ensure_unique_names()
    name_borders(graph, answer["inputs"], answer["outputs"], answer["output_order"])
    floats = float_ops(graph)
    return Quantized(graph.write(), float_ops=floats, notes=(*answer.get("notes", ()), *_notes(floats)))


def float_ops(graph: Graph) -> tuple[str, ...]:
    """Names of the ops that compute in float, in order, with repeats; QUANTIZE and DEQUANTIZE do not count."""
    return tuple(
        op.name
        for subgraph in graph.subgraphs
        for op in subgraph.ops
        if op.name not in _BORDERS and _is_float(op, subgraph)
    )


def _is_float(op: Op, subgraph: Subgraph) -> bool:
    tensors = [t for t in [*subgraph.input_tensors(op), *subgraph.output_tensors(op)] if t is not None]
    return any(t.dtype in ("float32", "float16") and not t.is_constant for t in tensors)


def loops_of(graph: Graph) -> list[str]:
    """Names of the ops that run other subgraphs."""
    return sorted({op.name for s in graph.subgraphs for op in s.ops} & {"WHILE", "IF", "CALL_ONCE"})


def check_no_loops(graph: Graph) -> None:
    """Raises UsageError for a model with loops: the library quantizes no loop's body."""
    loops = loops_of(graph)
    if loops:
        raise UsageError(
            f"the model holds {loops[0]} (recurrent layers do): its body cannot be quantized",
            hint="give the .keras file (its layers are unrolled here), build them with unroll=True, or --scheme float",
        )


def _check_borders(graph: Graph, ranges: Ranges) -> None:
    """Input and output must be int8, and the input's scale what calibration found: the library may clip silently."""
    unread = [graph.main.tensors[index] for index in unread_inputs(graph)]
    for tensor in [*graph.inputs, *graph.outputs]:
        if tensor.dtype == "float32" and not any(tensor is one for one in unread):
            raise UsageError(f"'{tensor.name}' stayed float at the model's border", hint="try --engine tflite")
    for tensor in graph.inputs:
        if tensor.dtype != "int8" or tensor.name not in ranges.tensors or not tensor.affine.is_quantized:
            continue
        low, high = ranges.tensors[tensor.name]
        wanted = (max(high, 0.0) - min(low, 0.0)) / 255
        got = tensor.affine.scale
        if wanted > 0 and abs(got - wanted) > 0.02 * wanted:
            raise UsageError(f"input '{tensor.name}' came out with scale {got:.6g}, measured was {wanted:.6g}")


def _notes(floats: Sequence[str]) -> tuple[str, ...]:
    if not floats:
        return ()
    counted = ", ".join(f"{count} {name}" if count > 1 else name for name, count in Counter(floats).items())
    return (f"stayed float: {counted}",)


def _columns(samples: Iterable[Array | Sequence[Array]]) -> list[Array]:
    rows = [[np.array(s)] if isinstance(s, np.ndarray) else [np.array(a) for a in s] for s in samples]
    if not rows:
        raise UsageError("no samples to calibrate with")
    return [np.stack(column) for column in zip(*rows, strict=True)]


@contextlib.contextmanager
def _npy_files(arrays: Sequence[Array]) -> Iterator[list[Path]]:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="edgeloop-") as folder:
        paths = [Path(folder) / f"input{i}.npy" for i in range(len(arrays))]
        for path, array in zip(paths, arrays, strict=True):
            np.save(path, array)
        yield paths
