"""Loading a SavedModel inside the child: choose a signature, fix its batch, refuse ops that reach out of the graph."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from edgeloop.errors import RefusedError, UsageError
from edgeloop_converters.frontends.native import Loaded, Stages, fixed_spec, import_tensorflow

_DEFAULT = "serving_default"

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


def load_saved_model(
    source: Path,
    signature: str | None,
    *,
    batch: int,
    shape: Sequence[int] | None,
    trust_code: bool,
    stages: Stages,
) -> Loaded:
    """Raises RefusedError (ops that run code), UsageError (which signature?, free dimensions)."""
    tf = import_tensorflow("reading SavedModels", stages)
    if not trust_code:
        _check_ops(source)
    stages.done("scan")
    try:
        loaded = tf.saved_model.load(str(source))
    except (OSError, ValueError, RuntimeError, KeyError, tf.errors.OpError) as error:
        raise UsageError(f"{source}: TensorFlow cannot load it: {str(error).strip().splitlines()[0][:300]}") from error
    name = choose_signature(list(loaded.signatures), signature, source)
    function = loaded.signatures[name]
    _, keywords = function.structured_input_signature
    names = sorted(keywords)  # TensorFlow's own order of a signature's inputs
    specs = [fixed_spec(tf, n, _dims(keywords[n]), keywords[n].dtype, batch, shape) for n in names]

    def call(*arrays: Any) -> dict[str, Any]:
        outputs: dict[str, Any] = function(**dict(zip(names, arrays, strict=True)))
        return outputs

    others = sorted(set(loaded.signatures) - {name})
    notes = (f"signature '{name}' is converted, not {', '.join(others)}",) if others and signature is None else ()
    return Loaded(call, specs, {"tensorflow": tf.__version__}, notes, loaded)


def choose_signature(available: Sequence[str], wanted: str | None, source: Path) -> str:
    """The signature to convert. Raises UsageError listing what there is."""
    have = ", ".join(sorted(available))
    if wanted is not None:
        if wanted not in available:
            raise UsageError(f"{source}: no signature '{wanted}'", hint=f"it has: {have or 'none'}")
        return wanted
    if _DEFAULT in available:
        return _DEFAULT
    if len(available) == 1:
        return available[0]
    if not available:
        raise UsageError(f"{source}: the SavedModel has no signature", hint="save it with model.export(folder)")
    raise UsageError(f"{source}: which signature?", hint=f"--signature, one of: {have}")


def _dims(spec: Any) -> list[int | None] | None:
    return None if spec.shape.rank is None else list(spec.shape.as_list())


def _check_ops(source: Path) -> None:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((source / "saved_model.pb").read_bytes())
    except (OSError, DecodeError) as error:
        raise RefusedError(f"{source}: a damaged saved_model.pb ({error})") from error
    for node in _nodes(saved):
        if node.op in REFUSED_OPS or _REFUSED_FAMILIES.search(node.op):
            raise RefusedError(
                f"{source}: op '{node.name}' ({node.op}) reaches out of the model: it would run code or touch files",
                hint="--trust-code loads it all the same, if you trust whoever made it",
            )


def _nodes(saved: Any) -> Iterable[Any]:
    for meta in saved.meta_graphs:
        yield from meta.graph_def.node
        for function in meta.graph_def.library.function:
            yield from function.node_def
