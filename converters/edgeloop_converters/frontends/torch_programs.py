"""`.pt2`: programs that torch.export.save wrote, read without running anything that is in them.

torch.export.load unpickles, evaluates text as Python, and looks functions up by name; so a file is a program in more
ways than one. Here it is rewritten first: only the graph, the weights and the constants are kept, all names, texts and
expressions in the graph come from closed lists, and what is pickled must be plain tensors. PyTorch sees the copy.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeloop.errors import RefusedError, UsageError
from edgeloop_converters.frontends.file_scan import AGAIN, check_members
from edgeloop_converters.frontends.given_shape import GivenShape
from edgeloop_converters.frontends.loading import TorchModel
from edgeloop_converters.frontends.torch_factory import given_shape
from edgeloop_converters.frontends.user_code import first_line

_OLD = "serialized_exported_program.json"
_KEPT = re.compile(
    r"archive_format|archive_version|byteorder|\.data/\w+|models/model\.json|data/sample_inputs/model\.pt"
    r"|data/(weights|constants)/(model_(weights|constants)_config\.json|(weight|tensor)_\d+)"
)
_CODE = re.compile(r"data/aotinductor/|data/executorch/|.*\.(so|dll|cpp|cubin|py)$")
_MAX_JSON_BYTES = 256 << 20
_METADATA = frozenset({"stack_trace", "nn_module_stack", "torch_fn"})

# Functions of a graph: tensor ops, and arithmetic on sizes.
_TARGET = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed)\.\w+\.\w+|torch\.sym_(float|int|ite|max|min|not|sum|sqrt)"
    r"|_operator\.(add|and_|eq|floordiv|ge|getitem|gt|le|lt|mod|mul|ne|neg|or_|pos|pow|sub|truediv)"
    r"|math\.(ceil|floor|trunc)|torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast)"
)
# aten::save and aten::from_file are tensor ops too: without a text that names a file they can do nothing.
# fmt: off
_TEXTS = frozenset((
    "none", "tanh", "floor", "trunc", "same", "valid", "ij", "xy", "sum", "prod", "mean", "amax", "amin", "constant",
    "reflect", "replicate", "circular", "linear", "bilinear", "bicubic", "trilinear", "nearest", "nearest-exact",
    "area", "left", "right", "cpu",
))
# fmt: on
_EINSUM = re.compile(r"[A-Za-z., >-]{1,200}")
# Sizes: symbols, numbers and arithmetic; sympy evaluates the text as Python.
_EXPRESSION = re.compile(
    r"(?:Symbol\('[su]\d+'(?:, (?:positive|integer|nonnegative)=True)*\)|\b[su]\d+\b|\d+|[-+*/(), ]|[<>=!]=?"
    r"|\b(?:Add|Mul|Pow|Integer|Rational|FloorDiv|CleanDiv|PythonMod|Mod|Max|Min|ModularIndexing|ceiling|floor"
    r"|CeilToInt|FloorToInt|IntTrueDiv|ToFloat|TruncToInt|Eq|Ne|Gt|Ge|Lt|Le|And|Or|Not|True|False|true|false)\b)*"
)
_TREE_TYPES = frozenset({"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})


def load_program(request: dict[str, Any]) -> TorchModel:
    """Raises RefusedError for what would run code or is damaged, UsageError for what cannot be converted."""
    import torch

    source = Path(request["source"])
    clean = Path(request["folder"]) / "program.pt2"
    rewrite(source, clean)
    try:
        program = torch.export.load(clean)
        module = program.module()
    except Exception as error:
        raise UsageError(
            f"{source}: torch {torch.__version__} cannot load it: {first_line(error)}",
            hint="export it again with this version of torch",
        ) from error
    signature, values = program.graph_signature, {n.name: n.meta.get("val") for n in program.graph.nodes}
    names = tuple(str(name) for name in signature.user_inputs)
    given = given_shape(request, str(source))
    example = tuple(_example(values.get(name), name, given, source) for name in names)
    given.check_used(names)
    return TorchModel(module, example, names, False, ())


def _example(value: Any, name: str, given: GivenShape, source: Path) -> Any:
    import torch

    if not isinstance(value, torch.Tensor):
        raise UsageError(f"{source}: input '{name}' is no tensor", hint="export the model with tensors as its inputs")
    shape = given.settle(name, [d if isinstance(d, int) else None for d in value.shape], 1)
    if None in shape:
        given.check_fits(name)
        raise UsageError(
            f"{source}: input '{name}' has no fixed shape ({', '.join(str(d) for d in value.shape)})",
            hint="say it without the batch: --shape 3x224x224",
        )
    if shape and shape[0] != 1:
        raise UsageError(
            f"{source}: was exported with a batch of {shape[0]}", hint="export it with example inputs [1, ...]"
        )
    sizes = [int(d) for d in shape if d is not None]
    return torch.rand(sizes) if value.dtype.is_floating_point else torch.zeros(sizes, dtype=value.dtype)


def rewrite(source: Path, target: Path) -> None:
    """Copy what a program needs, checked. Raises RefusedError, UsageError."""
    what = str(source)
    try:
        with zipfile.ZipFile(source) as archive:
            names = check_members(archive, what)
            if _OLD in names:
                raise UsageError(f"{what}: written by an old torch", hint="export it again with torch 2.8 or newer")
            root = next(name.partition("/")[0] for name in names if name.endswith("/archive_format"))
            with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as out:
                for name in sorted(names):
                    inner = name.removeprefix(f"{root}/")
                    if _CODE.fullmatch(inner) or inner.startswith("data/aotinductor/"):
                        raise RefusedError(f"{what}: '{inner}' is compiled code", hint="export the program alone")
                    if _KEPT.fullmatch(inner):
                        _copy(archive, name, inner, out, what)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, StopIteration) as error:
        raise RefusedError(f"{what}: a damaged .pt2 file ({error})", hint=AGAIN) from error


def _copy(archive: zipfile.ZipFile, name: str, inner: str, out: zipfile.ZipFile, what: str) -> None:
    place = f"program/{inner}"
    if inner == "data/sample_inputs/model.pt":
        out.writestr(place, b"")  # a pickle, and not needed: the graph has the inputs' shapes
    elif inner.endswith(".json"):
        if archive.getinfo(name).file_size > _MAX_JSON_BYTES:
            raise RefusedError(f"{what}: '{inner}' is larger than {_MAX_JSON_BYTES >> 20} MiB")
        try:
            value = json.loads(archive.read(name))
        except (ValueError, RecursionError) as error:
            raise RefusedError(f"{what}: '{inner}' is not JSON") from error
        out.writestr(place, json.dumps(_checked_program(value, what) if inner.startswith("models/") else value))
        if inner.endswith("_config.json"):
            _check_payloads(value, inner, archive, name, what)
    else:
        with archive.open(name) as stream, out.open(place, "w", force_zip64=True) as copy:
            while chunk := stream.read(1 << 20):
                copy.write(chunk)


def _check_payloads(value: Any, inner: str, archive: zipfile.ZipFile, name: str, what: str) -> None:
    """Weights and constants must be plain tensors; what is pickled must load with weights_only."""
    import torch

    folder = name.rpartition("/")[0]
    entries = value.get("config", {}) if isinstance(value, dict) else {}
    for key, entry in entries.items():
        path = str(entry.get("path_name", ""))
        if not re.fullmatch(r"(weight|tensor)_\d+", path):
            raise RefusedError(f"{what}: constant '{key}' is a pickled object: it would run code")
        if entry.get("use_pickle"):
            try:
                torch.load(io.BytesIO(archive.read(f"{folder}/{path}")), weights_only=True)
            except Exception as error:
                raise RefusedError(f"{what}: '{inner}': {key} is a pickle that would run code") from error


def _checked_program(program: Any, what: str) -> Any:
    """The graph without its guards and most metadata. Raises RefusedError for a name, text or expression not known."""
    if not isinstance(program, dict):
        raise RefusedError(f"{what}: its graph is not a table")
    program["guards_code"] = []  # Python text that torch would run before every call
    for holder in _tables(program, what):
        if "target" in holder and "metadata" in holder:
            target = holder["target"]
            if not isinstance(target, str) or not _TARGET.fullmatch(target):
                raise RefusedError(f"{what}: the graph calls {str(target)[:80]!r}, which is no tensor op")
            metadata = holder["metadata"] if isinstance(holder["metadata"], dict) else {}
            holder["metadata"] = {k: v for k, v in metadata.items() if k in _METADATA and isinstance(v, str)}
            is_einsum = "einsum" in target
            for text in _texts(holder.get("inputs")):
                if text not in _TEXTS and not (is_einsum and _EINSUM.fullmatch(text)):
                    raise RefusedError(f"{what}: op {target} is given the text {text[:80]!r}")
        if "expr_str" in holder and not _EXPRESSION.fullmatch(str(holder["expr_str"])):
            raise RefusedError(f"{what}: a size is given by {str(holder['expr_str'])[:80]!r}, which is no arithmetic")
        for key in ("in_spec", "out_spec", "treespec"):
            if isinstance(holder.get(key), str):
                _check_tree(holder[key], what)
    return program


def _tables(value: Any, what: str) -> Iterator[dict[str, Any]]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack.extend(v for v in item.values() if isinstance(v, (dict, list)))
        elif isinstance(item, list):
            stack.extend(v for v in item if isinstance(v, (dict, list)))


def _texts(inputs: Any) -> Iterator[str]:
    """What an op gets as text."""
    for table in _tables(inputs if isinstance(inputs, (dict, list)) else [], ""):
        for key in ("as_string", "as_strings"):
            found = table.get(key)
            yield from [found] if isinstance(found, str) else [str(s) for s in found or ()]


def _check_tree(text: str, what: str) -> None:
    """How inputs and outputs are nested: tuples, lists and dictionaries only; other types would be imported."""
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise RefusedError(f"{what}: a nesting that is not JSON") from error
    for holder in _tables(tree, what):
        kind = holder.get("type")
        if kind is not None and kind not in _TREE_TYPES:
            raise RefusedError(
                f"{what}: inputs or outputs are nested in {str(kind)[:80]}", hint="return tensors, tuples or dicts"
            )
