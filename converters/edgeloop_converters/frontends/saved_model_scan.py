"""Refuse a SavedModel whose graph reaches out of the model. Reads its protobuf; nothing of it runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeloop.errors import RefusedError
from edgeloop_converters.frontends.file_scan import AGAIN

# Ops that run Python or touch files, the network or other graphs; loading a SavedModel may run its initializers.
# fmt: off
REFUSED_OPS = frozenset((
    "PyFunc", "PyFuncStateless", "EagerPyFunc", "NumpyFunc", "WriteFile", "ReadFile", "MatchingFiles", "PrintV2",
    "Save", "SaveSlices", "Send", "Recv", "RemoteCall", "XlaLaunch", "XlaLaunchV2", "XlaCustomCall", "XlaCustomCallV2",
    "ImportEvent", "DecodeProtoV2", "FileSystemSetConfiguration", "LoadAndRemapMatrix",
))
# fmt: on
# Whole families of them: pipelines (one, DatasetFromGraph, carries a graph as text that no scan would see; others cache
# to files), file readers, summary writers, remote procedures, debuggers, other machines.
_REFUSED_FAMILIES = re.compile(r"Dataset|Iterator|Reader|Summary|Collective|Rpc|TPU|^Debug|^(_|Xla)\w*(Send|Recv)")
# Every SavedModel holds these, to save its variables with: only nobody may call that while it loads or converts.
_SAVER_OPS = frozenset(("SaveV2", "MergeV2Checkpoints"))
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")


def check_ops(source: Path) -> None:
    """Raises RefusedError naming the op."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((source / "saved_model.pb").read_bytes())
    except (OSError, DecodeError) as error:
        raise RefusedError(f"{source}: a damaged saved_model.pb ({error})", hint=AGAIN) from error
    for meta in saved.meta_graphs:
        functions = {function.signature.name: function.node_def for function in meta.graph_def.library.function}
        for node in (*meta.graph_def.node, *(node for body in functions.values() for node in body)):
            if node.op in REFUSED_OPS or _REFUSED_FAMILIES.search(node.op):
                raise _refused(source, node)
        for node in _nodes_that_may_run(meta, functions):
            if node.op in _SAVER_OPS:
                raise _refused(source, node)


def _refused(source: Path, node: Any) -> RefusedError:
    return RefusedError(
        f"{source}: op '{node.name}' ({node.op}) reaches out of the model: it would run code or touch files",
        hint="--trust-code loads it all the same, if you trust whoever made it",
    )


def _nodes_that_may_run(meta: Any, functions: Mapping[str, Any]) -> Iterator[Any]:
    """What loading and calling it can reach: initializers, restoring, signatures, and every function of its objects."""
    nodes = {node.name: node for node in meta.graph_def.node}
    reached = list(_with_inputs(nodes, _roots(meta)))
    yield from reached
    wanted = [*meta.object_graph_def.concrete_functions, *(name for node in reached for name in _called(node))]
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        yield from functions[name]
        wanted += [called for node in functions[name] for called in _called(node)]


def _roots(meta: Any) -> Iterator[str]:
    yield meta.saver_def.restore_op_name
    for signature in meta.signature_def.values():
        yield from (tensor.name for tensor in signature.outputs.values())
    for name in _INIT_COLLECTIONS:
        if name in meta.collection_def:
            yield from meta.collection_def[name].node_list.value


def _with_inputs(nodes: Mapping[str, Any], roots: Iterable[str]) -> Iterator[Any]:
    """The nodes under these names (`name`, `name:0`, `^name`) and all they depend on."""
    waiting, seen = list(roots), set()
    while waiting:
        name = waiting.pop().lstrip("^").partition(":")[0]
        if name in nodes and name not in seen:
            seen.add(name)
            yield nodes[name]
            waiting += nodes[name].input


def _called(node: Any) -> Iterator[str]:
    """Names of functions that a node may call."""
    yield node.op
    for value in node.attr.values():
        yield value.func.name
        yield from (function.name for function in value.list.func)
