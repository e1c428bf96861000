"""Dataset: samples by index, decoded when they are asked for, with labels where there are any."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import DataError
from edgeloop.progress import Progress, SilentProgress
from edgeloop_converters.data.parts import LazyParts, lengths_of

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]

IMAGE = "image"
TENSOR = "tensor"
NAMED = "named"
CACHE_BYTES = 256 << 20
_NAMED = 3


class UnreadableError(DataError):
    """A sample that is there but cannot be read, or holds NaN."""


def unreadable_error(problems: Sequence[str], total: int) -> UnreadableError:
    """Of `total` samples those with `problems`, one text each: how many, and the first three."""
    more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    what = f"{len(problems)} of {total} samples cannot be used: {'; '.join(problems[:_NAMED])}{more}"
    return UnreadableError(what, hint="repair or remove what cannot be used")


@dataclass(frozen=True)
class Dataset:
    """Samples of one model input, or of several.

    kind "image": `sample(i)` is uint8 [H, W, 3] BGR as `cv2.imread` gives it, or gray [H, W]; sizes may differ.
    kind "tensor": `sample(i)` is an array of `sample_shape` (None: they differ), values as they are in the source.
    kind "named": `sample(i)` is a dictionary of them by input name. parts: every array of the source by its name, each
    as a data set without labels; where the source has only one, none.
    labels: int64 [n] class ids, or None. class_names: names by class id, where the data name them.
    notes: what was assumed while opening, for the user to see.
    files: of a folder of pictures, one per sample; what a cache of decoded pictures goes by.
    decode_size: (height, width) that pictures are decoded for, where a contract says that this is enough.
    """

    kind: str
    source: str
    size: int
    read: Callable[[int], Any]
    labels: Indices | None = None
    class_names: tuple[str, ...] | None = None
    sample_shape: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()
    describe: Callable[[int], str] = str
    files: tuple[str, ...] | None = None
    parts: Mapping[str, Dataset] = field(default_factory=dict)
    decode_size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return self.size

    def sample(self, index: int) -> Any:
        """The raw sample. Raises DataError naming it when it cannot be read."""
        return self.read(index)

    def unlabelled(self) -> Dataset:
        """The same samples without their labels (`--ignore-labels`)."""
        return replace(self, labels=None, class_names=None)

    def subset(self, indices: Sequence[int] | Indices) -> Dataset:
        """The samples at `indices`, renumbered from 0 in that order."""
        chosen = np.asarray(indices, np.int64)
        read, describe, parts = self.read, self.describe, self.parts
        return replace(
            self,
            parts=LazyParts(
                {name: len(chosen) for name, count in lengths_of(parts).items() if count == self.size},
                lambda name: parts[name].subset(chosen),
            ),
            size=len(chosen),
            read=lambda i: read(int(chosen[i])),
            describe=lambda i: describe(int(chosen[i])),
            files=None if self.files is None else tuple(self.files[i] for i in chosen),
            labels=None if self.labels is None else self.labels[chosen],
        )

    def as_tensors(self) -> Dataset:
        """For a contract of kind "tensor": images become plain arrays in RGB order, [H, W, 3] or [H, W]."""
        if self.kind != IMAGE:
            return self
        read = self.read
        return replace(self, kind=TENSOR, read=lambda i: _bgr_to_rgb(read(i)))


@dataclass(frozen=True)
class Split:
    """Disjoint index sets: what ranges are measured on, and what the result is judged on."""

    calibration: Indices
    evaluation: Indices


def split(dataset: Dataset, n_calibration: int, seed: int = 0) -> Split:
    """Take `n_calibration` samples for calibration, the same share of every class, and leave the rest for evaluation.

    Both parts have the classes in the data's own proportions: an even draw would use up the rare classes, and accuracy
    on what is left would say little about the data. Deterministic in (labels, size, seed). With fewer than 2 samples to
    spare for evaluation, at most half are taken.
    """
    chosen = pick_stratified(dataset, min(n_calibration, max(1, len(dataset) // 2)), seed)
    rest = np.setdiff1d(np.arange(len(dataset), dtype=np.int64), chosen, assume_unique=True)
    return Split(chosen, rest)


def pick(dataset: Dataset, count: int, seed: int = 0) -> Indices:
    """`count` distinct indices in ascending order, evenly over the classes where labels exist. Deterministic."""
    # Round-robin over the classes: the k-th sample of every class comes before the (k+1)-th of any.
    return _first_by(dataset, count, seed, lambda rank, class_size: rank)


def pick_stratified(dataset: Dataset, count: int, seed: int = 0) -> Indices:
    """`count` distinct indices in ascending order, the same share of every class where labels exist. Deterministic.

    The same ones as `pick` where all classes are of one size.
    """
    return _first_by(dataset, count, seed, lambda rank, class_size: (rank + 0.5) / class_size)


def _first_by(dataset: Dataset, count: int, seed: int, key: Callable[[Indices, Indices], Array]) -> Indices:
    """The `count` samples with the least key (rank in the class, size of the class), ties at random."""
    total = len(dataset)
    if count >= total:
        return np.arange(total, dtype=np.int64)
    order = np.random.default_rng(seed).permutation(total)
    if dataset.labels is None:
        return np.sort(order[:count]).astype(np.int64)
    labels = dataset.labels[order]
    by_class = np.argsort(labels, kind="stable")
    sorted_labels = labels[by_class]
    starts = np.flatnonzero(np.r_[True, sorted_labels[1:] != sorted_labels[:-1]])
    class_sizes = np.diff(np.r_[starts, total])
    keys = np.empty(total, np.float64)
    keys[by_class] = key(np.arange(total) - np.repeat(starts, class_sizes), np.repeat(class_sizes, class_sizes))
    return np.sort(order[np.argsort(keys, kind="stable")[:count]]).astype(np.int64)


def check_samples(
    dataset: Dataset,
    indices: Sequence[int] | Indices | None = None,
    *,
    progress: Progress | None = None,
    cache_bytes: int = CACHE_BYTES,
    threads: int = 2,
) -> Dataset:
    """Read the samples at `indices` (default: all) once and return a Dataset that keeps up to `cache_bytes` of them.

    Raises DataError that counts and names unreadable samples, NaN and infinity.
    """
    wanted = range(len(dataset)) if indices is None else [int(i) for i in indices]
    progress = progress or SilentProgress()
    kept: dict[int, Any] = {}
    bad: list[str] = []
    used = 0

    def look(index: int) -> tuple[int, Any, str]:
        try:
            return index, dataset.read(index), ""
        except DataError as error:
            return index, None, error.message

    with progress.step("reading data", total=len(wanted)) as advance, ThreadPoolExecutor(threads) as pool:
        # In slices, because `map` submits everything at once and its results would pile up.
        for start in range(0, len(wanted), 256):
            part = wanted[start : start + 256]
            for index, sample, problem in pool.map(look, part):
                if sample is None:
                    bad.append(problem)
                    continue
                if not is_finite(sample):
                    bad.append(f"{dataset.describe(index)} holds NaN or infinity")
                elif used + sample_bytes(sample) <= cache_bytes:
                    kept[index] = sample
                    used += sample_bytes(sample)
            advance(len(part))
    if bad:
        raise unreadable_error(bad, len(wanted))
    read = dataset.read
    return replace(dataset, read=lambda i: kept[i] if i in kept else read(i))


def arrays_of(sample: Any) -> Iterable[Array]:
    """The arrays of one sample, of whichever kind the data are."""
    return sample.values() if isinstance(sample, Mapping) else (sample,)


def is_finite(sample: Any) -> bool:
    """No NaN and no infinity."""
    return all(a.dtype.kind not in "fc" or bool(np.isfinite(a).all()) for a in arrays_of(sample))


def sample_bytes(sample: Any) -> int:
    return sum(a.nbytes for a in arrays_of(sample))


def _bgr_to_rgb(image: Array) -> Array:
    return image[..., ::-1] if image.ndim == 3 and image.shape[-1] == 3 else image
