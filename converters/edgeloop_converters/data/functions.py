"""Samples from code of the user's own: `package.module:function`, named on the command line and nowhere else."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeloop.errors import DataError
from edgeloop_converters.data.dataset import TENSOR, Array, Dataset, Indices
from edgeloop_converters.data.named import SAMPLE_KEYS, named_dataset
from edgeloop_converters.data.npz import LABEL_KEYS, array_dataset
from edgeloop_converters.data.parts import LazyParts

_YIELD = "return or yield x or (x, y): samples [n, ...] and n class ids"
MAX_BYTES = 4 << 30


def open_function(spec: str) -> Dataset:
    """Call `function()` once and collect what it gives.

    It returns or yields batches: samples, or a pair (samples, class ids [n]). Samples are an array [n, ...], or for a
    model with several inputs a dictionary of them by input name, in which `y` or `labels` may be the class ids. Batches
    may differ in their samples' sizes.
    Raises DataError for a module that cannot be imported, and for batches that do not fit together.
    """
    module_name, _, function_name = spec.partition(":")
    function = _find(module_name, function_name, spec)
    try:
        produced = function()
        batches = [produced] if _is_batch(produced) else produced
        collected = _collect(batches, spec)
    except DataError:
        raise
    except Exception as error:  # the user's code may fail in any way
        raise DataError(
            f"data {spec}: {type(error).__name__}: {_first_line(error)}", hint="it fails in your function"
        ) from error
    labels = collected.labels
    if len(collected.columns) == 1 and set(collected.columns) <= {"", *SAMPLE_KEYS}:
        return _column_dataset(next(iter(collected.columns.values())), labels, spec)
    parts = {name: _column_dataset(column, None, spec) for name, column in collected.columns.items()}
    return named_dataset(LazyParts({n: len(p) for n, p in parts.items()}, parts.__getitem__), labels, None, spec)


@dataclass(frozen=True)
class _Collected:
    """columns: batches by input name, "" where there is only one input."""

    columns: Mapping[str, list[Array]]
    labels: Indices | None


def _column_dataset(batches: list[Array], labels: Indices | None, spec: str) -> Dataset:
    if len({batch.shape[1:] for batch in batches}) == 1:
        return array_dataset(batches[0] if len(batches) == 1 else np.concatenate(batches), labels, None, spec)
    ends = np.cumsum([len(batch) for batch in batches])

    def read(i: int) -> Array:
        which = int(np.searchsorted(ends, i, side="right"))
        sample: Array = batches[which][i - (int(ends[which - 1]) if which else 0)]
        return sample

    return Dataset(TENSOR, spec, int(ends[-1]), read, labels, describe=lambda i: f"sample {i} of {spec}")


def _find(module_name: str, function_name: str, spec: str) -> Any:
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing runs the user's code
        raise DataError(
            f"data {spec}: cannot import {module_name}: {_first_line(error)}",
            hint="run it from the folder the module is in",
        ) from error
    finally:
        if added and here in sys.path:
            sys.path.remove(here)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise DataError(
            f"data {spec}: {module_name} has no function '{function_name}'",
            hint="MODULE:FUNCTION, a function without arguments",
        )
    return function


def _collect(batches: Any, spec: str) -> _Collected:
    if not isinstance(batches, Iterable):
        raise DataError(f"data {spec}: gave {type(batches).__name__}, not batches of samples", hint=_YIELD)
    columns: dict[str, list[Array]] = {}
    ids: list[Array] = []
    used = 0
    for count, batch in enumerate(batches):
        arrays, given = _parts(batch)
        if count and set(arrays) != set(columns):
            raise DataError(
                f"data {spec}: a batch with {sorted(arrays)} follows one with {sorted(columns)}",
                hint="the same inputs in each",
            )
        for name, value in arrays.items():
            x = _samples(value, name, columns.setdefault(name, []), spec)
            used += x.nbytes
            if used > MAX_BYTES:
                raise DataError(
                    f"data {spec}: more than {MAX_BYTES >> 30} GiB of samples", hint="yield fewer, or save .npz"
                )
        if len({len(column[-1]) for column in columns.values()}) != 1:
            listed = ", ".join(f"{name} {len(column[-1])}" for name, column in columns.items())
            raise DataError(
                f"data {spec}: the arrays of a batch have different lengths ({listed})",
                hint="one row per sample in each",
            )
        if given is not None:
            ids.append(_ids(given, len(next(iter(columns.values()))[-1]), spec))
        if len(ids) not in (0, count + 1):
            raise DataError(f"data {spec}: some batches have class ids and some do not", hint="all or none")
    if not any(len(x) for column in columns.values() for x in column):
        raise DataError(f"data {spec}: gave no samples", hint=_YIELD)
    return _Collected(columns, np.concatenate(ids) if ids else None)


def _parts(batch: Any) -> tuple[dict[str, Any], Any]:
    """(arrays by input name, class ids or None)."""
    is_pair = isinstance(batch, (tuple, list)) and len(batch) == 2
    samples, ids = batch if is_pair else (batch, None)
    if not isinstance(samples, Mapping):
        return {"": samples}, ids
    arrays = {str(name): value for name, value in samples.items()}
    for key in LABEL_KEYS if ids is None else ():
        if key in arrays and len(arrays) > 1:
            return {name: value for name, value in arrays.items() if name != key}, arrays[key]
    return arrays, ids


def _samples(value: Any, name: str, before: list[Array], spec: str) -> Array:
    """`value` as an array that goes with the batches before; it is added to them."""
    x = np.asarray(value)
    what = f"data {spec}: " + (f"'{name}': " if name else "")
    if not x.ndim or x.dtype.kind not in "biuf" or (x.ndim < 2 and not name):
        raise DataError(f"{what}a batch must be numbers [n, ...], got {x.dtype} {list(x.shape)}", hint=_YIELD)
    if before and (x.ndim != before[0].ndim or x.dtype != before[0].dtype):
        raise DataError(
            f"{what}{x.dtype} {list(x.shape)} follows {before[0].dtype} {list(before[0].shape)}",
            hint="all samples must have one dtype and number of axes",
        )
    before.append(x)
    return x


def _ids(value: Any, count: int, spec: str) -> Indices:
    ids = np.asarray(value)
    if not ids.ndim:
        raise DataError(
            f"data {spec}: a single class id came with a batch of samples",
            hint="yield batches, samples [n, ...] and ids [n]; one sample is sample[None], [class_id]",
        )
    if ids.ndim == 2 and ids.shape[1] == 1:
        ids = ids[:, 0]
    if ids.shape != (count,) or ids.dtype.kind not in "biu" or (len(ids) and ids.min() < 0):
        raise DataError(
            f"data {spec}: class ids must be {count} whole numbers from 0, got {ids.dtype} {list(ids.shape)}",
            hint=_YIELD,
        )
    return ids.astype(np.int64)


def _is_batch(value: Any) -> bool:
    return isinstance(value, (np.ndarray, Mapping)) or (
        isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[0], (np.ndarray, Mapping))
        and isinstance(value[1], np.ndarray)
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
