"""Ask those who know: the runtime what XNNPACK takes of a model, and the Edge TPU compiler, where it is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.cli._console import Console

if TYPE_CHECKING:
    from edgeloop.analysis import Confirmation
    from edgeloop.graph import Graph
    from edgeloop.targets import Target

_OTHER_RUNTIME = "armv7l"
"""Its boards run tflite-runtime 2.14, whose XNNPACK takes other ops than the one here."""
_INTEGER_KINDS = ("int8", "uint8", "mixed")


def confirmations(model: bytes, graph: Graph, target: Target | None, console: Console) -> dict[str, Confirmation]:
    """By delegate. What could not be asked is left out, and said where that is not expected."""
    found = {
        "xnnpack": _xnnpack(model, target, console),
        "edgetpu": _edgetpu(model, graph, target, console),
    }
    return {name: said for name, said in found.items() if said is not None}


def _xnnpack(model: bytes, target: Target | None, console: Console) -> Confirmation | None:
    from edgeloop.analysis import Confirmation
    from edgeloop.errors import DelegateError
    from edgeloop.graph.kinds import EDGETPU_OP
    from edgeloop.runtime.taken import taken_ops

    if (target is not None and target.architecture == _OTHER_RUNTIME) or EDGETPU_OP.encode() in model:
        return None
    try:
        taken = taken_ops(model)
    except DelegateError as error:
        console.note(f"xnnpack is predicted only: {error.message}")
        return None
    if "litert" not in taken.runtime:
        return None
    return Confirmation(taken.ops, taken.runtime)


def _edgetpu(model: bytes, graph: Graph, target: Target | None, console: Console) -> Confirmation | None:
    from edgeloop.analysis import Confirmation
    from edgeloop.analysis.edgetpu_program import program_size
    from edgeloop.edgetpu_compiler import compile_model, find_compiler
    from edgeloop.errors import DeviceError
    from edgeloop.graph import Graph as AnyGraph

    compiler = find_compiler()
    if compiler is None or target is None or not target.has_edgetpu or graph.numeric_kind() not in _INTEGER_KINDS:
        return None
    try:
        with console.step("compiling for the Edge TPU"):
            done = compile_model(model, compiler=compiler)
    except DeviceError as error:
        console.note(f"edgetpu is predicted only: {error.message}")
        return None
    taken = frozenset(range(len(graph.main.ops))) - done.left.keys()
    by = f"edgetpu_compiler {done.log.version}".rstrip()
    return Confirmation(taken, by, done.left, program_size(AnyGraph.read(done.model)))
