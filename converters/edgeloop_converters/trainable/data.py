"""Training data: batches of model-ready arrays in an order that a seed decides, and the split into two parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeloop.contract import Contract
from edgeloop.errors import DataError, UsageError
from edgeloop.graph import Tensor
from edgeloop_converters.data import Dataset
from edgeloop_converters.trainable.augmenting import Augment, augmented

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]

CACHE_BYTES = 1 << 30
_CHECKED_AT_ONCE = 1024


@dataclass(frozen=True)
class Batch:
    """inputs: one array per model input, samples along axis 0. labels: one array per task; empty without labels.

    A label of -1 (class) or NaN (value) means: not known for this sample.
    """

    inputs: tuple[Array, ...]
    labels: tuple[Array, ...] = ()

    @property
    def size(self) -> int:
        return len(self.inputs[0])


class TrainingData(Protocol):
    """Samples with or without labels. Reading the same indices gives the same values."""

    def __len__(self) -> int: ...

    @property
    def labels(self) -> tuple[Array, ...]:
        """Of all samples, one array per task."""

    def read(self, indices: Indices) -> tuple[Array, ...]:
        """Model inputs of these samples, stacked along axis 0, in the model's dtypes."""


@dataclass(frozen=True)
class ArrayData:
    """Samples in memory. inputs: one array per model input, [samples, ...] without the model's own batch axis of 1."""

    inputs: tuple[Array, ...]
    labels: tuple[Array, ...] = ()

    def __post_init__(self) -> None:
        counts = {len(array) for array in (*self.inputs, *self.labels)}
        if len(counts) != 1:
            raise DataError(f"training data: inputs and labels have {sorted(counts)} samples: they must be as many")
        if counts == {0}:
            raise DataError("training data: there are no samples")
        for array in self.inputs:
            _check_finite(array)

    def __len__(self) -> int:
        return len(self.inputs[0])

    def read(self, indices: Indices) -> tuple[Array, ...]:
        return tuple(array[indices] for array in self.inputs)


class DatasetData:
    """A Dataset through a contract's preprocessing, read when asked for; up to `cache_bytes` of it are kept."""

    def __init__(self, dataset: Dataset, contract: Contract, model: bytes, cache_bytes: int = CACHE_BYTES) -> None:
        self._dataset, self._contract, self._model = dataset, contract, model
        self._room = cache_bytes
        self._kept: dict[int, tuple[Array, ...]] = {}
        self.labels: tuple[Array, ...] = () if dataset.labels is None else (dataset.labels,)

    def __len__(self) -> int:
        return len(self._dataset)

    def read(self, indices: Indices) -> tuple[Array, ...]:
        """Raises DataError naming the sample that does not fit."""
        from edgeloop_converters.calibration import model_inputs

        found = {int(i): self._kept[int(i)] for i in indices if int(i) in self._kept}
        missing = [int(i) for i in indices if int(i) not in found]
        rows = model_inputs(self._contract, self._model, self._dataset, missing)
        for index, row in zip(missing, rows, strict=True):
            found[index] = sample = tuple(array.copy() for array in row)
            for array in sample:
                _check_finite(array, index)
            size = sum(array.nbytes for array in sample)
            if size <= self._room and index not in self._kept:
                self._kept[index] = sample
                self._room -= size
        columns = zip(*(found[int(i)] for i in indices), strict=True)
        return tuple(np.concatenate(column) for column in columns)


@dataclass(frozen=True)
class Part:
    """Some samples of other data."""

    whole: TrainingData
    indices: Indices

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def labels(self) -> tuple[Array, ...]:
        return tuple(labels[self.indices] for labels in self.whole.labels)

    def read(self, indices: Indices) -> tuple[Array, ...]:
        return self.whole.read(self.indices[indices])


def training_data(samples: Any, labels: Any = None) -> TrainingData:
    """From TrainingData (as it is), an array [samples, ...], or samples as passes take them: a sequence of one array
    per model input, [1, ...] each.

    Pictures may stay uint8: they become floats batch by batch. labels: an array as long, or a sequence of them, one per
    task. Raises DataError where lengths or shapes differ, or something is no number.
    """
    if hasattr(samples, "read"):
        if labels is not None:
            raise UsageError("these training data bring their own labels")
        found: TrainingData = samples
        return found
    if isinstance(samples, np.ndarray):
        return ArrayData((_numbers(samples),), _tasks(labels))
    if isinstance(samples, (str, bytes)) or not isinstance(samples, Sequence):
        raise DataError(
            f"training data are arrays, not a {type(samples).__name__}",
            hint="a folder or file: DatasetData(open_data(PATH), contract, model)",
        )
    if not len(samples):
        raise DataError("training data: there are no samples")
    try:
        rows = [(row,) if isinstance(row, np.ndarray) else tuple(row) for row in samples]
        columns = tuple(_numbers(np.concatenate(column)) for column in zip(*rows, strict=True))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"training data: the samples are no arrays of one shape ({error})",
            hint="an array [samples, ...], or a list of arrays [1, ...]",
        ) from error
    return ArrayData(columns, _tasks(labels))


def check_fits(data: TrainingData, inputs: Sequence[Tensor]) -> None:
    """Raises DataError where a sample has other shapes than the model's inputs."""
    given, wanted = data.read(np.zeros(1, np.int64)), inputs
    if [array.shape[1:] for array in given] != [tensor.shape[1:] for tensor in wanted]:
        here, there = (" and ".join(str(list(one.shape[1:])) for one in several) for several in (given, wanted))
        raise DataError(f"training data: a sample is {here}, the model takes {there}")


def _tasks(labels: Any) -> tuple[Array, ...]:
    """Classes as int64, flags and values as float32."""
    if labels is None:
        return ()
    is_one = isinstance(labels, np.ndarray) or not any(np.ndim(part) for part in labels)
    tasks = [np.asarray(part) for part in ([labels] if is_one else labels)]
    for task in tasks:
        if task.dtype.kind not in "biuf" or not task.ndim:
            raise DataError(
                f"labels are {task.dtype.name}, not numbers",
                hint="classes: np.unique(labels, return_inverse=True)[1]",
            )
    return tuple(task.astype(np.int64 if task.dtype.kind in "iu" else np.float32) for task in tasks)


def _numbers(array: Array) -> Array:
    if array.dtype.kind not in "biuf":
        raise DataError(f"training data: the samples are {array.dtype.name}, not numbers")
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _check_finite(array: Array, first: int = 0) -> None:
    """first: number of its first sample. TensorFlow's ReLU makes a NaN 0, so training alone would not show it."""
    if array.dtype.kind != "f":
        return
    for start in range(0, len(array), _CHECKED_AT_ONCE):
        part = array[start : start + _CHECKED_AT_ONCE]
        bad = ~np.isfinite(part).reshape(len(part), -1).all(axis=1)
        if bad.any():
            raise DataError(
                f"training sample {first + start + int(bad.argmax())} holds NaN or infinity",
                hint="mend it or leave it out: edgeloop check-data",
            )


def split(data: TrainingData, fraction: float, seed: int) -> tuple[Part, Part]:
    """(to learn from, to validate with): `fraction` of every class of the first task, at random, at least one sample.

    Raises DataError where nothing would be left to learn from.
    """
    random = np.random.default_rng([seed, 0x5EED])
    order = random.permutation(len(data))
    if data.labels and np.issubdtype(data.labels[0].dtype, np.integer) and data.labels[0].ndim == 1:
        classes = data.labels[0][order]
        by_class = np.argsort(classes, kind="stable")
        ranks = np.empty(len(order))
        _, counts = np.unique(classes, return_counts=True)
        ranks[by_class] = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
        order = order[np.argsort(ranks, kind="stable")]
    count = max(1, round(len(data) * fraction)) if fraction > 0 else 0
    if count >= len(data):
        raise DataError(
            f"{len(data)} sample{'s are' if len(data) > 1 else ' is'} too few to learn from and to validate with",
            hint="give more data, or validation=0 to do without a validation part",
        )
    return Part(data, np.sort(order[count:])), Part(data, np.sort(order[:count]))


def batches(
    data: TrainingData,
    size: int,
    *,
    seed: Sequence[int] | None = None,
    start: int = 0,
    augment: Augment | None = None,
) -> Iterator[Batch]:
    """Batches of `size` samples from batch `start` on. seed: shuffled by it, and a rest that fills no batch left out;
    None: in order, all. The same seed gives the same batches from any start.
    """
    count = len(data)
    order = np.arange(count) if seed is None else np.random.default_rng(list(seed)).permutation(count)
    labels = data.labels
    for number in range(start, batch_count(count, size, whole=seed is not None)):
        indices = order[number * size : (number + 1) * size].astype(np.int64)
        inputs = data.read(indices)
        if augment is not None and seed is not None:
            inputs = augmented(augment, inputs, np.random.default_rng([*seed, number]))
        yield Batch(inputs, tuple(task[indices] for task in labels))


def batch_count(samples: int, size: int, *, whole: bool) -> int:
    """whole: only full batches, but one at least."""
    return max(1, samples // size) if whole else -(-samples // size)


def without_labels(data: TrainingData) -> TrainingData:
    """The same samples, so that only a teacher is learnt from."""
    return replace(data, labels=()) if isinstance(data, ArrayData) else _Unlabelled(data)


@dataclass(frozen=True)
class _Unlabelled:
    whole: TrainingData
    labels: tuple[Array, ...] = ()

    def __len__(self) -> int:
        return len(self.whole)

    def read(self, indices: Indices) -> tuple[Array, ...]:
        return self.whole.read(indices)
