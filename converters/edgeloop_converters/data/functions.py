"""Samples from code of the user's own: `package.module:function`, named on the command line and nowhere else."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from edgeloop.errors import DataError
from edgeloop_converters.data.dataset import Array, Dataset, Indices
from edgeloop_converters.data.npz import array_dataset

MAX_BYTES = 4 << 30


def open_function(spec: str) -> Dataset:
    """Call `function()` once and collect what it gives.

    It returns or yields batches: an array [n, ...], or a pair (samples [n, ...], class ids [n]).
    Raises DataError for a module that cannot be imported, and for batches that do not fit together.
    """
    module_name, _, function_name = spec.partition(":")
    function = _find(module_name, function_name, spec)
    try:
        produced = function()
        batches = [produced] if _is_batch(produced) else produced
        samples, labels = _collect(batches, spec)
    except DataError:
        raise
    except Exception as error:  # the user's code may fail in any way
        raise DataError(f"data {spec}: {type(error).__name__}: {_first_line(error)}") from error
    return array_dataset(samples, labels, None, spec)


def _find(module_name: str, function_name: str, spec: str) -> Any:
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing runs the user's code
        raise DataError(f"data {spec}: cannot import {module_name}: {_first_line(error)}") from error
    finally:
        if added and here in sys.path:
            sys.path.remove(here)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise DataError(f"data {spec}: {module_name} has no function '{function_name}'")
    return function


def _collect(batches: Any, spec: str) -> tuple[Array, Indices | None]:
    if not isinstance(batches, Iterable):
        raise DataError(f"data {spec}: gave {type(batches).__name__}, not batches of samples")
    parts: list[Array] = []
    ids: list[Array] = []
    used = 0
    for batch in batches:
        pair = isinstance(batch, (tuple, list)) and len(batch) == 2
        x = np.asarray(batch[0] if pair else batch)
        if x.ndim < 2 or x.dtype.kind not in "biuf":
            raise DataError(f"data {spec}: a batch must be numbers [n, ...], got {x.dtype} {list(x.shape)}")
        if parts and (x.shape[1:] != parts[0].shape[1:] or x.dtype != parts[0].dtype):
            raise DataError(
                f"data {spec}: {x.dtype} {list(x.shape)} follows {parts[0].dtype} {list(parts[0].shape)}",
                hint="all samples must have one shape and dtype",
            )
        used += x.nbytes
        if used > MAX_BYTES:
            raise DataError(
                f"data {spec}: more than {MAX_BYTES >> 30} GiB of samples", hint="yield fewer, or save .npz"
            )
        parts.append(x)
        if pair:
            ids.append(_ids(batch[1], len(x), spec))
        if len(ids) not in (0, len(parts)):
            raise DataError(f"data {spec}: some batches have class ids and some do not")
    if not parts or not sum(len(p) for p in parts):
        raise DataError(f"data {spec}: gave no samples")
    samples = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return samples, np.concatenate(ids) if ids else None


def _ids(value: Any, count: int, spec: str) -> Indices:
    ids = np.asarray(value)
    if ids.ndim == 2 and ids.shape[1] == 1:
        ids = ids[:, 0]
    if ids.shape != (count,) or ids.dtype.kind not in "biu" or (len(ids) and ids.min() < 0):
        raise DataError(
            f"data {spec}: class ids must be {count} whole numbers from 0, got {ids.dtype} {list(ids.shape)}"
        )
    return ids.astype(np.int64)


def _is_batch(value: Any) -> bool:
    return isinstance(value, np.ndarray) or (
        isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, np.ndarray) for part in value)
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
