"""Data of models with several inputs: one array per input, by the input's name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edgeloop.errors import DataError
from edgeloop_converters.data.dataset import NAMED, Array, Dataset, Indices
from edgeloop_converters.data.parts import LazyParts

SAMPLE_KEYS = ("x", "features", "images", "data")
"""What the samples may be called where there is one array of them; the first that is there counts."""


def named_dataset(parts: LazyParts, labels: Indices | None, names: tuple[str, ...] | None, source: str) -> Dataset:
    """All arrays, until it is known which of them the model takes.

    Raises DataError where their lengths differ and no labels say which is right.
    """
    where = f"data {source}"
    counts = Counter(parts.lengths.values())
    if labels is None and len(counts) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in parts.lengths.items())
        raise DataError(f"{where}: arrays of different lengths ({listed})", hint="one row per sample in each")
    size = next(iter(counts)) if labels is None else len(labels)
    if labels is not None and size not in counts:
        listed = ", ".join(f"{name} {count}" for name, count in parts.lengths.items())
        raise DataError(
            f"{where}: {size} class ids, but the arrays have other lengths ({listed})", hint="one class id per sample"
        )

    def read(i: int) -> dict[str, Array]:
        return {name: parts[name].read(i) for name in parts if parts.lengths[name] == size}

    return Dataset(NAMED, source, size, read, labels, names, describe=lambda i: f"sample {i} of {source}", parts=parts)


def for_inputs(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The data as a model with inputs of these names takes them: arrays for one input, dictionaries for several.

    Raises DataError naming the input that has no array, or an array of another length.
    """
    if len(names) == 1:
        return _single(dataset, names[0])
    if not dataset.parts:
        if dataset.kind == NAMED:
            return dataset
        raise DataError(
            f"data {dataset.source}: one array per sample, but the model has {len(names)} inputs ({', '.join(names)})",
            hint="an .npz with an array per input, called as the inputs are; or module:function yielding dictionaries",
        )
    parts = {name: dataset.parts[_find(dataset, name, names)] for name in names}
    for name, part in parts.items():
        if len(part) != len(dataset):
            what = f"data {dataset.source}: '{name}' has {len(part)} samples and not {len(dataset)}"
            raise DataError(what, hint="one row per sample in each array")
    notes = tuple(dict.fromkeys(note for part in (dataset, *parts.values()) for note in part.notes))

    def read(i: int) -> dict[str, Any]:
        return {name: part.read(i) for name, part in parts.items()}

    return replace(dataset, kind=NAMED, read=read, sample_shape=None, notes=notes, parts=parts)


def _single(dataset: Dataset, name: str) -> Dataset:
    if dataset.kind != NAMED:
        called = [k for k in (_match(dataset, name),) if k is not None]
        taken, *others = dict.fromkeys([*(k for k in SAMPLE_KEYS if k in dataset.parts), *called]) or [""]
        if not others:
            return dataset
        note = f"data {dataset.source}: the samples are '{taken}', not {' or '.join(map(repr, others))}"
        return replace(dataset, notes=tuple(dict.fromkeys((*dataset.notes, note))))
    found = _match(dataset, name)
    if found is None:
        have = ", ".join(sorted(dataset.parts))
        hint = f"call the samples x (or '{name}', as the model's input) and the class ids y"
        raise DataError(f"data {dataset.source}: no samples: it holds {have}", hint=hint)
    part = dataset.parts[found]
    if len(part) != len(dataset):
        raise DataError(
            f"data {dataset.source}: {len(part)} samples in '{found}' but {len(dataset)} class ids",
            hint="one class id per sample",
        )
    return replace(part, labels=dataset.labels, class_names=dataset.class_names)


def _find(dataset: Dataset, name: str, names: Sequence[str]) -> str:
    found = _match(dataset, name)
    if found is None:
        have = ", ".join(sorted(dataset.parts))
        raise DataError(
            f"data {dataset.source}: no array for input '{name}': it holds {have}",
            hint=f"the model's inputs are {', '.join(names)}: one array each, called so",
        )
    return found


def _match(dataset: Dataset, name: str) -> str | None:
    """The array of that name; TensorFlow's `serving_default_NAME:0` is found by NAME, too."""
    plain = name.removeprefix("serving_default_").partition(":")[0]
    return next((n for n in (name, plain) if n in dataset.parts), None)
