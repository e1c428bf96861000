"""Bringing the data's class ids in line with the model's: by name where both have names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgeloop.errors import DataError
from edgeloop_converters.data.dataset import Dataset


def fit_labels(dataset: Dataset, labels: Sequence[str], outputs: int | None = None) -> Dataset:
    """The dataset with class ids meaning `labels` (the contract's, may be empty) of a model with `outputs` classes.

    Class names of the data are looked up among the labels, ignoring case and `_`/`-`/space; where the data have no
    names their ids are taken as they are. Raises DataError when that does not fit.
    """
    if dataset.labels is None:
        return dataset
    names = dataset.class_names
    if labels and outputs is not None and len(labels) != outputs:
        raise DataError(
            f"{len(labels)} labels but the model has {outputs} outputs", hint="one label per output, in class order"
        )
    if names and labels and tuple(names) != tuple(labels):
        dataset = _renumbered(dataset, names, labels)
    elif names and outputs is not None and len(names) != outputs:
        raise DataError(
            f"data {dataset.source}: {len(names)} classes but the model has {outputs} outputs",
            hint="give the model's labels in class order (--labels labels.txt), so that classes are found by name",
        )
    ids = dataset.labels
    assert ids is not None
    limit = len(labels) or outputs
    if limit and len(ids) and (ids.min() < 0 or ids.max() >= limit):
        wrong = int(ids.max()) if ids.max() >= limit else int(ids.min())
        count = int(((ids < 0) | (ids >= limit)).sum())
        counts_from_one = int(ids.min()) == 1 and int(ids.max()) == limit
        raise DataError(
            f"data {dataset.source}: class id {wrong} ({count} samples) but the model has {limit} outputs",
            hint="the class ids start at 1: subtract 1, so that they start at 0"
            if counts_from_one
            else "are these the labels of this model? --ignore-labels leaves them out",
        )
    if len(ids) > 1 and int(ids.min()) == int(ids.max()):
        note = f"data {dataset.source}: all {len(ids)} samples are of one class, so accuracy says little"
        dataset = replace(dataset, notes=(*dataset.notes, note))
    return dataset


def _renumbered(dataset: Dataset, names: Sequence[str], labels: Sequence[str]) -> Dataset:
    assert dataset.labels is not None
    by_name: dict[str, int] = {}
    for i, label in enumerate(labels):
        # "tench, Tinca tinca" is found as a whole and by each of its synonyms; the first class to use a name has it.
        for name in (label, *label.split(",")):
            by_name.setdefault(_plain(name), i)
    used = np.unique(dataset.labels)
    missing = [names[i] for i in used if _plain(names[i]) not in by_name]
    if missing:
        raise DataError(
            f"data {dataset.source}: class '{missing[0]}' is not among the {len(labels)} labels"
            + (f" (nor are {len(missing) - 1} others)" if len(missing) > 1 else ""),
            hint="name the class folders as in the labels file",
        )
    table = np.asarray([by_name.get(_plain(name), -1) for name in names], np.int64)
    return replace(dataset, labels=table[dataset.labels], class_names=tuple(labels))


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").lower().split())
