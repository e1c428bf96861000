"""Samples from an .npz: `x` or `features`, `y` or `labels`, optional `label_names`. Read through the safe reader.

For a model with several inputs: one array per input, called as the input.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeloop.errors import DataError
from edgeloop.npz import Npz
from edgeloop_converters.data.dataset import IMAGE, TENSOR, Array, Dataset, Indices
from edgeloop_converters.data.named import SAMPLE_KEYS, named_dataset
from edgeloop_converters.data.parts import LazyParts

LABEL_KEYS = ("y", "labels")
NAME_KEYS = ("label_names", "class_names")
_MAX_NAMES = 1 << 20
_IDS = "class ids are whole numbers from 0, one per sample, in the order of the model's outputs"


def open_npz_data(path: Path) -> Dataset:
    """uint8 [n, H, W], [n, H, W, 1] and [n, H, W, 3] (RGB) are images; everything else is tensors.

    Raises DataError for missing arrays, wrong shapes or labels; RefusedError for hostile files.
    """
    where = f"data {path}"
    with Npz(path) as archive:
        parts = _parts(archive, path)
        key = _first(archive, SAMPLE_KEYS)
        if key is None and not parts:
            have = ", ".join(sorted(archive.headers)) or "nothing"
            raise DataError(f"{where}: no samples: it holds {have}", hint="call the samples x and the class ids y")
        names = _names(archive, where)
        if key is None:
            return named_dataset(parts, _labels(archive, None, where), names, str(path))
        header = archive.headers[key]
        if header.dtype.kind not in "biuf":
            raise DataError(
                f"{where}: '{key}' holds {header.dtype}, not numbers", hint="real numbers or uint8 pictures"
            )
        if not header.shape or header.shape[0] == 0 or header.nbytes == 0:
            raise DataError(f"{where}: '{key}' is empty (shape {list(header.shape)})", hint="give at least one sample")
        samples = archive.array(key)
        labels = _labels(archive, len(samples), where)
    dataset = array_dataset(samples, labels, names, str(path))
    return replace(dataset, parts=parts) if len(parts) > 1 else dataset


def _parts(archive: Npz, path: Path) -> LazyParts:
    """Every array that may be a model's input; none is read yet."""
    others = (*LABEL_KEYS, *NAME_KEYS)
    lengths = {
        name: header.shape[0]
        for name, header in archive.headers.items()
        if name not in others and header.dtype.kind in "biuf" and header.shape and header.nbytes
    }

    def load(name: str) -> Dataset:
        with Npz(path) as again:
            return array_dataset(again.array(name), None, None, str(path))

    return LazyParts(lengths, load)


def array_dataset(
    samples: Array, labels: Indices | None, names: tuple[str, ...] | None, source: str, notes: tuple[str, ...] = ()
) -> Dataset:
    """A Dataset over an array [n, ...] that is in memory or mapped."""
    shape = samples.shape[1:]
    is_image = samples.dtype == np.uint8 and (len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3)))
    if is_image and len(shape) == 3 and shape[-1] == 3:
        notes = (*notes, f"data {source}: uint8 with 3 channels is read as RGB pictures")

    def read(i: int) -> Array:
        sample = np.array(samples[i])
        if not is_image:
            return sample if sample.dtype.isnative else sample.astype(sample.dtype.newbyteorder("="))
        if sample.ndim == 3:
            sample = sample[..., 0] if sample.shape[-1] == 1 else np.ascontiguousarray(sample[..., ::-1])
        return sample

    kind = IMAGE if is_image else TENSOR
    return Dataset(kind, source, len(samples), read, labels, names, shape, notes, lambda i: f"sample {i} of {source}")


def _labels(archive: Npz, count: int | None, where: str) -> Indices | None:
    """count: of the samples; None: not known yet."""
    key = _first(archive, LABEL_KEYS)
    if key is None:
        return None
    labels = np.asarray(archive.array(key))
    if not labels.size:
        raise DataError(f"{where}: '{key}' is empty (shape {list(labels.shape)})", hint=_IDS)
    if count is None:
        count = len(labels) if labels.ndim else 1
    if labels.ndim == 2 and labels.shape[1] > 1 and labels.shape[0] == count and _is_one_hot(labels):
        labels = labels.argmax(axis=1)
    labels = labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.shape != (count,):
        raise DataError(f"{where}: {count} samples but '{key}' has shape {list(labels.shape)}", hint=_IDS)
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == np.round(labels)).all():
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "biu":
        raise DataError(f"{where}: '{key}' holds {labels.dtype}, not class ids", hint=_IDS)
    if labels.min() < 0:
        raise DataError(f"{where}: '{key}' holds a negative class id ({labels.min()})", hint=_IDS)
    if labels.max() >= 1 << 31:
        raise DataError(f"{where}: '{key}' holds the class id {labels.max()}", hint=_IDS)
    return labels.astype(np.int64)


def _names(archive: Npz, where: str) -> tuple[str, ...] | None:
    key = _first(archive, NAME_KEYS)
    if key is None:
        return None
    names = archive.array(key)
    if names.ndim != 1 or names.dtype.kind not in "US" or len(names) > _MAX_NAMES:
        raise DataError(f"{where}: '{key}' must be a list of names", hint="one text per class, in class order")
    return tuple(n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in names.tolist())


def _first(archive: Npz, keys: tuple[str, ...]) -> str | None:
    return next((k for k in keys if k in archive.headers), None)


def _is_one_hot(labels: Array) -> bool:
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all())
