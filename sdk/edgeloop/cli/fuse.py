"""Two models or more as one file: one after another, or side by side on one input."""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.cli._console import Console
from edgeloop.errors import EXIT_DONE, UsageError

if TYPE_CHECKING:
    from edgeloop.graph import Graph

EPILOG = """examples:
  edgeloop fuse backbone.tflite head.tflite -o both.tflite
  edgeloop fuse faces.tflite masks.tflite --parallel -o both.tflite
  edgeloop convert both.tflite --data calib/ --target rpi4     like any other model

One after another: the outputs of a model are the inputs of the next. --parallel: all
take the same input; outputs are called MODEL/OUTPUT. What meets at the seam is merged,
what the models share is computed once. See docs/pruning.md."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help=".tflite, or any that `convert` reads")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .tflite to write")
    parser.add_argument("--parallel", action="store_true", help="side by side on one input, not one after another")
    parser.add_argument("--as-is", action="store_true", help="merge nothing: every op stays as it was")
    parser.add_argument("--trust-code", action="store_true", help="run code inside a Keras file; else it is refused")


def run(args: argparse.Namespace, console: Console) -> int:
    from edgeloop_converters.passes import in_series, optimize_graph, side_by_side

    paths: list[Path] = args.models
    if len(paths) < 2:
        raise UsageError("one model alone cannot be fused", hint="edgeloop fuse A.tflite B.tflite -o C.tflite")
    models = [_read(path, args.trust_code, console) for path in paths]
    if args.parallel:
        both = side_by_side(models, _names(paths))
    else:
        both = models[0]
        for (before, behind), model in zip(pairwise(path.name for path in paths), models[1:], strict=True):
            both = in_series(both, model, names=(before, behind))
    done = "nothing merged"
    if not args.as_is:
        both, report = optimize_graph(both, progress=console)
        console.note(report.note())
        done = report.detail
    both.save(args.output)
    data = _figures(both, args.output)
    console.result({**data, "models": [str(path) for path in paths], "merged": done}, _text(data, models, done))
    return EXIT_DONE


def _read(path: Path, trust_code: bool, console: Console) -> Graph:
    """A .tflite as it is, quantized ones too; anything else as a float one."""
    from edgeloop.graph import Graph
    from edgeloop_converters.frontends import ConversionOptions, detect, to_float_tflite

    if path.suffix == ".tflite" or detect(path) == "tflite":
        graph = Graph.read(path)
        if graph.numeric_kind() == "compiled":
            raise UsageError(f"{path} is compiled for the Edge TPU", hint="fuse the models from before, then compile")
        return graph
    model = to_float_tflite(path, ConversionOptions(trust_code=trust_code), progress=console)
    for note in model.notes:
        console.note(note)
    return Graph.read(model.tflite)


def _names(paths: list[Path]) -> list[str]:
    """Their stems; numbered where two are the same."""
    stems = [path.stem for path in paths]
    return [stem if stems.count(stem) == 1 else f"{stem}_{number}" for number, stem in enumerate(stems)]


def _figures(graph: Graph, path: Path) -> dict[str, Any]:
    from edgeloop.graph.parts import output_names
    from edgeloop_converters.passes.figures import macs

    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "ops": len(graph.main.ops),
        "macs": round(macs(graph)),
        "inputs": [{"name": t.name, "shape": list(t.shape), "dtype": t.dtype} for t in graph.inputs],
        "outputs": [
            {"name": name, "shape": list(t.shape), "dtype": t.dtype}
            for name, t in zip(output_names(graph), graph.outputs, strict=True)
        ],
    }


def _text(data: dict[str, Any], models: list[Graph], done: str) -> str:
    from edgeloop.graph.naming import printable
    from edgeloop_converters.passes.figures import macs

    ops = sum(len(model.main.ops) for model in models)
    work = sum(map(macs, models))
    outputs = ", ".join(f"{printable(o['name'], limit=60)} {o['shape']}" for o in data["outputs"])
    return (
        f"{data['file']}: {data['bytes']:,} bytes\n"
        f"  ops      {ops} -> {data['ops']}\n"
        f"  MACs     {work:,.0f} -> {data['macs']:,}\n"
        f"  merged   {done}\n"
        f"  outputs  {outputs}"
    )
