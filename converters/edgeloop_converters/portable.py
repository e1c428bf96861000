"""What of a conversion travels in its bundle: names and hashes of its inputs, not the folders of whoever made it."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeloop_converters.data.dataset import Dataset
from edgeloop_converters.recipe import Recipe, is_code_spec
from edgeloop_converters.sources import Datasets

_HASHED_MAX_BYTES = 1 << 30
"""Larger data files are not read a second time for their hash."""


def input_hashes(recipe: Recipe, data: Datasets) -> dict[str, str]:
    """SHA-256 by key of the recipe: source, data, eval. Of a file its bytes, of a model's folder names and bytes, of a
    folder of pictures their names, which decide what is drawn from it. What code makes has none.
    """
    found = {"source": source_sha256(Path(recipe.source))}
    if recipe.data:
        found["data"] = _data_sha256(recipe.data, data.calibration)
    if recipe.evaluation:
        found["eval"] = _data_sha256(recipe.evaluation, data.evaluation)
    return {key: digest for key, digest in found.items() if digest is not None}


def changed_inputs(recipe: Recipe, hashes: Mapping[str, str]) -> tuple[str, ...]:
    """A line for every input that is another than when the recipe was written."""
    named = {"source": recipe.source, "data": recipe.data, "eval": recipe.evaluation}
    return tuple(
        f"{key} {named[key]} is another than the recipe was written for: the result will differ"
        for key, digest in hashes.items()
        if recipe.sha256.get(key, digest) != digest
    )


def portable_recipe(recipe: Recipe, hashes: Mapping[str, str]) -> Recipe:
    """The recipe with the names of its inputs, and their hashes."""
    return replace(
        recipe,
        source=_name(recipe.source),
        data=recipe.data and _name(recipe.data),
        evaluation=recipe.evaluation and _name(recipe.evaluation),
        sha256=dict(hashes),
    )


def portable_report(report: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """The report with names in the place of the paths of the recipe's inputs; in the command, of all paths."""
    given = [spec for spec in (recipe.source, recipe.data, recipe.evaluation) if spec and "/" in spec]
    paths = sorted({*given, *(str(Path(spec)) for spec in given)}, key=len, reverse=True)
    plain: dict[str, Any] = _renamed(report, [(path, _name(path)) for path in paths])
    words = shlex.split(str(report.get("command", "")))
    return {**plain, "command": shlex.join(_name(word) if "/" in word else word for word in words)}


def source_sha256(source: Path) -> str | None:
    """Of a file, or of a folder's files; None for what is neither."""
    if source.is_file():
        return _of_pieces(_pieces(source))
    if not source.is_dir():
        return None
    files = sorted(path for path in source.rglob("*") if path.is_file())
    return _of_pieces(
        f"{path.relative_to(source)}\0{_of_pieces(_pieces(path))}\n".encode("utf-8", "surrogateescape")
        for path in files
    )


def _data_sha256(spec: str, dataset: Dataset) -> str | None:
    path = Path(spec)
    if path.is_file():
        return _of_pieces(_pieces(path)) if path.stat().st_size <= _HASHED_MAX_BYTES else None
    if dataset.files is None:
        return None
    folder = f"{dataset.source}/"
    names = "".join(f"{file.removeprefix(folder)}\n" for file in dataset.files)
    return _of_pieces([names.encode("utf-8", "surrogateescape")])


def _pieces(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece


def _of_pieces(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _name(spec: str) -> str:
    return spec if is_code_spec(spec) else Path(spec).name or Path(spec).resolve().name


def _renamed(value: Any, names: Sequence[tuple[str, str]]) -> Any:
    if isinstance(value, Mapping):
        return {key: _renamed(item, names) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_renamed(item, names) for item in value]
    if isinstance(value, str):
        for path, name in names:
            value = value.replace(path, name)
    return value
