"""The files that a contract's [output] table names, as the values that travel in their place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.decoding import EmbeddingSettings
from edgeloop.errors import ConfigError, EdgeloopError

if TYPE_CHECKING:
    from edgeloop.contract import Contract


def inlined(output: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """An [output] table with the contents of the files (beside the contract) that it names. Raises ConfigError.

    labels: text, see `load_labels`. anchors: .npz with `anchors` [n, 4]. gallery: see `load_gallery`.
    """
    table = dict(output)
    if isinstance(table.get("labels"), str):
        table["labels"] = load_labels(folder / table["labels"])
    if isinstance(table.get("anchors"), str):
        table["anchors"] = _rows(folder / table["anchors"], "anchors")[0]
    if isinstance(table.get("gallery"), str):
        labels, table["gallery"] = load_gallery(folder / table["gallery"])
        table["labels"] = labels
    return table


def load_labels(path: Path) -> tuple[str, ...]:
    """One label a line, in class order. `0 background` style numbering is taken off. Raises ConfigError."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # Windows editors write a mark in front
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not UTF-8 text: {error.reason}"
        raise ConfigError(f"labels {path}: {reason}") from error
    while lines and not lines[-1].strip():
        lines.pop()
    split = [line.strip().split(maxsplit=1) for line in lines]
    if lines and all(len(parts) == 2 and parts[0].isdigit() for parts in split):
        numbered = {int(number): label for number, label in split}
        if len(numbered) == len(lines):
            return tuple(numbered.get(i, "") for i in range(max(numbered) + 1))
    return tuple(line.strip() for line in lines)


def load_gallery(path: Path) -> tuple[tuple[str, ...], list[list[float]]]:
    """An .npz with `vectors` [n, size] and `labels` [n], a name for each row. Raises ConfigError."""
    rows, arrays = _rows(path, "vectors")
    labels = tuple(str(each) for each in arrays["labels"].reshape(-1).tolist()) if "labels" in arrays else ()
    if len(labels) != len(rows):
        raise ConfigError(
            f"gallery {path}: {len(labels)} labels for {len(rows)} vectors",
            hint="numpy.savez(FILE, vectors=[n, size], labels=[n])",
        )
    for label, row in zip(labels, rows, strict=True):
        if not any(row) or not math.isfinite(sum(row)):
            raise ConfigError(
                f"gallery {path}: the vector of {label!r} is all zeros, or holds NaN or infinity",
                hint="leave it out, or make it anew: nothing is near to it",
            )
    return labels, rows


def with_gallery(contract: Contract, path: Path) -> Contract:
    """The contract with another gallery, of any size: the device's own. Raises ConfigError where it is no embedding."""
    settings = contract.output.settings
    if not isinstance(settings, EmbeddingSettings):
        raise ConfigError(
            f"a gallery goes with an embedding, and this model's output is of kind {contract.output.kind}",
            hint="leave the gallery out",
        )
    labels, rows = load_gallery(path)
    settings = replace(settings, gallery=tuple(tuple(row) for row in rows))
    return replace(contract, output=replace(contract.output, labels=labels, settings=settings))


def _rows(path: Path, name: str) -> tuple[list[list[float]], dict[str, Any]]:
    """The rows of array `name`, and all arrays."""
    from edgeloop.npz import Npz

    try:
        npz = Npz(path)
        arrays = {each: npz.array(each) for each in npz.headers}
    except EdgeloopError as error:
        raise ConfigError(f"contract: {name} {path}: {error.message}", hint=error.hint) from error
    found = arrays.get(name)
    if found is None or found.ndim != 2 or found.dtype.kind not in "fiu":
        raise ConfigError(f"contract: {path} needs an array '{name}' of rows of numbers")
    # As short as float32 can be said: these go into the manifest as text.
    return [[float(f"{x:.9g}") for x in row] for row in found.tolist()], arrays
