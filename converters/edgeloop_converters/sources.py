"""What a conversion starts from, brought together: data, contract, and which samples serve what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.contract import CHANNELS, Contract
from edgeloop.errors import DataError, UsageError
from edgeloop.padding import Shape
from edgeloop.progress import Progress
from edgeloop_converters.contracts import complete, detect_contract, fit_data, picture_input
from edgeloop_converters.data import NAMED, TENSOR, Dataset, check_samples, open_data, pick, pick_stratified, split
from edgeloop_converters.data.cache import DecodedCache
from edgeloop_converters.data.dataset import sample_bytes
from edgeloop_converters.data.folders import decoded_for
from edgeloop_converters.frontends.conversion import ConversionOptions, GivenSizes
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.shapes import GivenShape

Indices = npt.NDArray[np.int64]

_READ_AHEAD_BYTES = 64 << 20


@dataclass(frozen=True)
class Datasets:
    """Calibration and evaluation data; one and the same object when there is no `--eval`."""

    calibration: Dataset
    evaluation: Dataset

    @property
    def is_one(self) -> bool:
        return self.calibration is self.evaluation


@dataclass(frozen=True)
class Sources:
    """All that is settled before a weight is touched. calibration and evaluation are disjoint when the data are one.

    validation: of the calibration data, samples that trials are judged by and nothing is learnt from.
    """

    contract: Contract
    data: Datasets
    calibration: Indices
    evaluation: Indices
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    validation: Indices = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def learnable(self) -> Indices:
        """Of the calibration data, what passes may look at: never what is evaluated or what choices are made by."""
        every = self.calibration if self.data.is_one else np.arange(len(self.data.calibration), dtype=np.int64)
        return np.setdiff1d(every, self.validation)


def open_datasets(recipe: Recipe) -> Datasets:
    """Open `data` and `evaluation` of a recipe. Raises UsageError when there are none, DataError for what is wrong."""
    if not recipe.data and not recipe.evaluation:
        raise UsageError(
            "data are missing: samples to calibrate and evaluate on",
            hint="--data DIR (class folders or images), an .npz with x and y, or package.module:function",
        )
    if recipe.data is None and recipe.is_calibrated:
        raise UsageError(
            "calibration data are missing", hint="--data DIR; --eval alone is enough for schemes that compute in float"
        )
    first = open_data(recipe.data or recipe.evaluation or "")
    second = open_data(recipe.evaluation) if recipe.data and recipe.evaluation else None
    if recipe.ignore_labels:
        first = first.unlabelled()
        second = second.unlabelled() if second else None
    return Datasets(first, second or first)


def conversion_options(
    recipe: Recipe, data: Datasets, shapes: Sequence[GivenShape], *, trust_code: bool
) -> ConversionOptions:
    """What a recipe tells the frontend. shapes: which ones of the recipe's."""
    given = [shape.given() for shape in shapes]
    return ConversionOptions(
        trust_code=trust_code,
        signature=recipe.signature or None,
        shape=given[0] if given else None,
        further=tuple(given[1:]),
        sample_shape=sample_shape(recipe, data),
        onnx_engine=recipe.onnx_engine,
    )


def sample_shape(recipe: Recipe, data: Datasets) -> GivenSizes | None:
    """The shape of one sample where it is known, for models whose own input shape has free dimensions; by name where
    there are several inputs."""
    if recipe.contract is not None:
        known = {
            spec.name: spec.sample_shape
            for spec in recipe.contract.inputs
            if spec.sample_shape is not None and not spec.has_free_sizes
        }
        return known if len(recipe.contract.inputs) > 1 else next(iter(known.values()), None)
    if recipe.hints.size is not None:
        return (*recipe.hints.size, CHANNELS.get(recipe.hints.color or "rgb", 3))
    dataset = data.calibration
    if dataset.kind == NAMED:
        shapes = {name: part.sample_shape for name, part in dataset.parts.items() if len(part) == len(dataset)}
        return {name: shape for name, shape in shapes.items() if shape is not None}
    return dataset.sample_shape if dataset.kind == TENSOR else None


def choose_samples(recipe: Recipe, data: Datasets) -> tuple[Indices, Indices]:
    """(calibration, evaluation) indices by the recipe's seed, never the same sample twice.

    What is evaluated has the classes in the data's own proportions."""
    if data.is_one and recipe.takes_samples:
        if len(data.calibration) < 2:
            raise DataError(
                f"data {data.calibration.source}: one sample cannot be split for calibration and evaluation",
                hint="give more samples, or others with --eval",
            )
        both = split(data.calibration, recipe.calibration_samples, recipe.seed)
        calibration, evaluation = both.calibration, both.evaluation
    else:
        calibration = (
            pick(data.calibration, recipe.calibration_samples, recipe.seed)
            if recipe.takes_samples
            else np.zeros(0, int)
        )
        evaluation = np.arange(len(data.evaluation), dtype=np.int64)
    limit = recipe.evaluation_limit
    if limit is not None and limit < len(evaluation):
        evaluation = evaluation[pick_stratified(data.evaluation.subset(evaluation), limit, recipe.seed)]
    return calibration, evaluation


def read_ahead(
    data: Datasets,
    calibration: Indices,
    evaluation: Indices,
    progress: Progress,
    *,
    all_of_it: bool,
    cache: DecodedCache | None = None,
) -> Datasets:
    """Decode calibration samples, and with `all_of_it` the others too as long as they fit in memory.

    all_of_it: a native converter works meanwhile in its own process, so the time is there. Samples that the cache holds
    were read before and are left to it. Raises DataError that counts and names what cannot be read.
    """
    if data.is_one:
        wanted: Any = calibration
        if all_of_it and _fits(data.calibration, len(calibration) + len(evaluation)):
            wanted = np.concatenate([calibration, evaluation])
        ready = _ready(data.calibration, wanted, progress, cache)
        return Datasets(ready, ready)
    first = _ready(data.calibration, calibration, progress, cache)
    second = data.evaluation
    if all_of_it and _fits(second, len(evaluation)):
        second = _ready(second, evaluation, progress, cache)
    return Datasets(first, second)


def _ready(dataset: Dataset, indices: Indices, progress: Progress, cache: DecodedCache | None) -> Dataset:
    known = cache is not None and cache.knows(dataset, indices)
    return dataset if known else check_samples(dataset, indices, progress=progress, cache_bytes=_READ_AHEAD_BYTES)


def _through(cache: DecodedCache, recipe: Recipe, model: bytes, data: Datasets) -> Datasets:
    """The same data, read through the cache where they are picture files for a picture contract."""
    file = Path(recipe.contract_file) if recipe.contract_file else None
    spec = picture_input(model, data.calibration, contract=recipe.contract, file=file, flags=recipe.hints)
    if spec is None or spec.size is None:
        return data
    first, second = (decoded_for(each, spec.decode_size) for each in (data.calibration, data.evaluation))
    first = cache.attach(first, spec.size, spec.resize)
    return Datasets(first, first if data.is_one else cache.attach(second, spec.size, spec.resize))


def _is_same(one: str, other: str) -> bool:
    return one == other or (Path(one).exists() and Path(one).resolve() == Path(other).resolve())


def _fits(dataset: Dataset, count: int) -> bool:
    return sample_bytes(dataset.sample(0)) * count <= _READ_AHEAD_BYTES


def settle(
    recipe: Recipe,
    model: bytes,
    data: Datasets,
    calibration: Indices,
    evaluation: Indices,
    cache: DecodedCache | None = None,
    varying: Sequence[Shape] | None = None,
) -> Sources:
    """Contract and data that fit each other and the model. varying: of shape buckets, each input's shape, partly FREE.

    Detection looks at labelled data first: only those show which scaling is right. Pictures come out at the model's
    size where they go through the cache. Raises ConfigError, DataError.
    """
    if cache is not None:
        data = _through(cache, recipe, model, data)
    notes: list[str] = []
    warnings: list[str] = []
    contract = recipe.contract
    first, second = data.calibration, data.evaluation
    by_second = not data.is_one and first.labels is None and second.labels is not None
    if contract is None:
        found = detect_contract(
            model,
            second if by_second else first,
            file=Path(recipe.contract_file) if recipe.contract_file else None,
            flags=recipe.hints,
            seed=recipe.seed,
            varying=varying,
        )
        contract = found.contract
        notes += found.notes
        warnings += found.warnings
        if by_second:
            second = found.data
            first = fit_data(contract, model, first)
        else:
            first = found.data
            second = first if data.is_one else fit_data(contract, model, second)
    else:
        contract = complete(contract, model, varying)
        first = fit_data(contract, model, first)
        second = first if data.is_one else fit_data(contract, model, second)
    if recipe.data and recipe.evaluation and _is_same(recipe.data, recipe.evaluation):
        warnings.append("--data and --eval are the same: samples that calibrated are evaluated as well")
    if len(evaluation) < len(second) and not data.is_one:
        notes.append(f"evaluated on {len(evaluation)} of {len(second)} samples, the same share of every class")
    for dataset in (first, second):
        notes += [note for note in dataset.notes if note not in notes]
    if data.is_one and recipe.takes_samples:
        notes.append(
            f"no --eval was given: of {first.source} {len(calibration)} samples calibrate and {len(evaluation)} others "
            "evaluate"
        )
    return Sources(contract, Datasets(first, second), calibration, evaluation, tuple(notes), tuple(warnings))
