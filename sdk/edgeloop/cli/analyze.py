"""What a model costs, where its ops run on a board, and what to change so that more of them run on its accelerator."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.cli._console import Console
from edgeloop.cli._preflight import byte_count, preflight_lines
from edgeloop.errors import EXIT_DONE
from edgeloop.targets import Target, load_target

if TYPE_CHECKING:
    from edgeloop.analysis import Analysis, OpInfo
    from edgeloop.graph import Graph

EPILOG = """example:
  edgeloop analyze model.tflite
  edgeloop analyze model.tflite --target coral-usb      which ops an Edge TPU would take, and why not the others
  edgeloop analyze ic.bundle --json

MACs are multiply-accumulates of one inference; peak memory is that of activations. Placements come from rules
("predicted"), or from the runtime and the Edge TPU compiler where they are here ("confirmed"). See docs/graph.md and
docs/coral.md."""

_NAME_WIDTH = 24
_KINDS = {
    "float": "float32",
    "float16": "float32 on float16 weights",
    "hybrid": "float32 on integer weights (hybrid)",
    "mixed": "partly quantized, partly float",
    "compiled": "compiled for the Edge TPU; the work inside cannot be seen",
    "other": "no float or quantized tensors",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a .tflite, a .bundle, or any model that `convert` reads")
    parser.add_argument(
        "--target", metavar="ID", help="board, see `edgeloop targets` (default: a bundle's own, else none)"
    )
    parser.add_argument("--variant", metavar="NAME", help="of the bundle (default: the first)")
    parser.add_argument(
        "--predict", action="store_true", help="rules only: ask no runtime and no compiler what it really takes"
    )
    parser.add_argument("--trust-code", action="store_true", help="run code inside a Keras file; else it is refused")


def run(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.analysis import analyze
    from edgeloop.cli._confirm import confirmations

    target = load_target(args.target) if args.target else None
    subject = _load(args, console)
    graph, target = subject.graph, target or subject.target
    confirmed = {} if args.predict or subject.is_strange else confirmations(subject.model, graph, target, console)
    analysis = analyze(graph, target, confirmed=confirmed)
    console.result(analysis.to_dict(), _text(args.model.name, graph, analysis, target))
    return EXIT_DONE


@dataclass(frozen=True)
class _Subject:
    """`target`: the one it was made for, where that is known. is_strange: nobody this machine trusts vouches for it."""

    model: bytes
    graph: Graph
    target: Target | None = None
    is_strange: bool = False


def _load(args: argparse.Namespace, console: Console) -> _Subject:
    from edgeloop.errors import UsageError
    from edgeloop.graph import Graph

    path: Path = args.model
    if path.suffix == ".bundle":
        return _from_bundle(path, args.variant, console)
    if args.variant:
        raise UsageError(f"{path} is a model, only bundles have variants", hint="leave out --variant")
    if path.suffix == ".tflite":
        return _Subject(model=b"" if not path.is_file() else path.read_bytes(), graph=Graph.read(path))
    from edgeloop_converters.frontends import ConversionOptions, detect, to_float_tflite

    if detect(path) == "tflite":
        return _Subject(path.read_bytes(), Graph.read(path))
    model = to_float_tflite(path, ConversionOptions(trust_code=args.trust_code), progress=console)
    for note in model.notes:
        console.note(note)
    return _Subject(model.tflite, Graph.read(model.tflite))


def _from_bundle(path: Path, variant: str | None, console: Console) -> _Subject:
    """A variant of a bundle. It is only looked at, so a signature is not required, but its absence is said."""
    from edgeloop.bundle import Bundle
    from edgeloop.errors import EdgeloopError
    from edgeloop.graph import Graph

    bundle = Bundle.open(path, allow_unsigned=True)
    if bundle.signed_by is None:
        console.note(f"{path.name} is not signed by a key this machine trusts")
    try:
        target = load_target(bundle.manifest.target)
    except EdgeloopError:  # a target of another machine's
        target = None
    model = bundle.model(variant)
    return _Subject(model, Graph.read(model), target, is_strange=bundle.signed_by is None)


def _text(name: str, graph: Graph, analysis: Analysis, target: Target | None) -> str:
    on = f" on {target.name} ({target.id})" if target else ""
    lines = [
        f"{name}{on}",
        _line("computes in", _KINDS.get(analysis.kind, analysis.kind)),
        _line("inputs", ", ".join(_tensor(t.name, t.shape, t.dtype) for t in graph.inputs)),
        _line("outputs", ", ".join(_tensor(t.name, t.shape, t.dtype) for t in graph.outputs)),
        _line("MACs", _counted(f"{_short(analysis.macs)} ({analysis.macs:,})", analysis.macs, analysis)),
        _line(
            "parameters",
            _counted(f"{analysis.parameters:,} in {analysis.layers} layers", analysis.parameters, analysis),
        ),
        _line("peak memory", f"{byte_count(analysis.peak_memory_bytes)} of activations"),
    ]
    for delegate, plan in analysis.delegates.items():
        lines.append(_line(delegate, f"{plan.mapped_ops} of {plan.total_ops} ops ({plan.status})"))
        lines += [_line(label, text) for label, text in preflight_lines(delegate, plan)]
    return "\n".join([*lines, "", *_table(analysis.ops, analysis.macs)])


def _counted(text: str, count: int, analysis: Analysis) -> str:
    """A compiled program hides what is inside: then a count is that of the other ops, and 0 is no count at all."""
    if analysis.kind != "compiled":
        return text
    return f"{text} outside the Edge TPU's program" if count else "not visible"


def _table(ops: Sequence[OpInfo], total_macs: int) -> list[str]:
    width = max([_NAME_WIDTH, *(len(op.name) for op in ops)])
    lines = [f"{'op':>4}  {'name':<{width}} {'output':<24} {'MACs':>8} {'share':>6} {'params':>8}  {'runs on':<8} why"]
    for op in ops:
        share = f"{op.macs / total_macs:.0%}" if op.macs else ""
        output = f"{'x'.join(map(str, op.output)) or 'scalar'} {op.dtype}"
        lines.append(
            f"{op.index:>4}  {op.name:<{width}} {output:<24} {_short(op.macs) if op.macs else '':>8} {share:>6} "
            f"{_short(op.parameters) if op.parameters else '':>8}  {op.placement:<8} {op.reason}".rstrip()
        )
    return lines


def _line(label: str, value: str) -> str:
    return f"  {label:<14} {value}"


def _tensor(name: str, shape: Sequence[int], dtype: str) -> str:
    from edgeloop.graph.naming import printable

    return f"{printable(name, limit=60)} {list(shape)} {dtype}"


def _short(count: int) -> str:
    """12,501,632 -> "12.5 M"."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
