"""Shape buckets: one float model per `--shape`, each with the samples that it is calibrated and evaluated on.

A sample goes to the smallest shape that holds it, as on the device; `docs/adr/0100`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeloop.contract import FREE, InputSpec, load_contract
from edgeloop.errors import DataError, UsageError
from edgeloop.graph import Graph
from edgeloop.padding import Shape, smallest_holding
from edgeloop_converters.data import Dataset, for_inputs
from edgeloop_converters.data.cache import DecodedCache
from edgeloop_converters.evaluate import run_models
from edgeloop_converters.frontends import FloatModel
from edgeloop_converters.io_names import input_names
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.sources import Datasets, Indices, Sources, settle

ENOUGH_TO_CALIBRATE = 32
"""A bucket with fewer samples of its own is calibrated on smaller ones, too, padded."""
PADDING_SAMPLES = 64
PADDING_AGREEMENT = 0.95
_LARGEST = "largest shape"  # no label can be called so


@dataclass(frozen=True)
class Basis:
    """A float model and its samples: what a variant is exported from. label: added to the variant's name; input_shapes:
    as in `bundle.Variant`.
    """

    recipe: Recipe
    model: FloatModel
    sources: Sources
    label: str = ""
    input_shapes: tuple[Shape, ...] = ()


def settle_buckets(
    recipe: Recipe,
    models: Sequence[FloatModel],
    data: Datasets,
    calibration: Indices,
    evaluation: Indices,
    cache: DecodedCache | None = None,
) -> tuple[Basis, tuple[Basis, ...]]:
    """(the largest shape with all samples that fit any, one basis per shape in the recipe's order).

    models: one per shape. Raises UsageError for shapes that are not of one model, DataError where a shape has no
    samples; ConfigError and DataError as `settle`.
    """
    names = input_names(Graph.read(models[0].tflite))
    shapes = [_sample_shapes(model) for model in models]
    free = _varying(shapes, recipe)
    specs = tuple(
        InputSpec(name, shape=shape, pad=pad)
        for name, shape, pad in zip(names, free, _pads(recipe, names), strict=True)
    )
    data = _for_inputs(data, names)
    places = (
        _places(specs, data.calibration, calibration, shapes),
        _places(specs, data.evaluation, evaluation, shapes),
    )
    fits = [place >= 0 for place in places]
    data, calibration, evaluation = _kept(data, calibration[fits[0]], evaluation[fits[1]])
    calibration_at, evaluation_at = (place[fit] for place, fit in zip(places, fits, strict=True))
    if not len(evaluation) or (recipe.is_calibrated and not len(calibration)):
        raise DataError(
            f"data {data.evaluation.source}: every sample is larger than the largest shape {_text(shapes, -1)}",
            hint="give a larger --shape",
        )
    order = sorted(range(len(shapes)), key=lambda i: _size(shapes[i]))
    sources = settle(recipe, models[order[-1]].tflite, data, calibration, evaluation, cache, varying=free)
    too_large = sum(int((~fit).sum()) for fit in fits)
    if too_large:
        text = (
            f"{too_large} of {sum(map(len, fits))} samples are larger than the largest shape, "
            f"{_text(shapes, order[-1])}, and are left out; a device refuses such, too"
        )
        sources = replace(sources, warnings=(*sources.warnings, text))
    bases = []
    for i, (given, model) in enumerate(zip(recipe.shapes, models, strict=True)):
        smaller = order[: order.index(i) + 1]
        own = [
            _own(calibration, calibration_at, i, smaller, ENOUGH_TO_CALIBRATE if recipe.is_calibrated else 0),
            _own(evaluation, evaluation_at, i, smaller, 1),
        ]
        if any(not len(chosen) for chosen, at in zip(own, (calibration_at, evaluation_at), strict=True) if len(at)):
            raise DataError(
                f"data {data.evaluation.source}: no sample fits into --shape {given}",
                hint="give shorter samples, or leave this shape out",
            )
        mine = int((evaluation_at == i).sum())
        note = f"shape {given}: evaluated on {mine} samples" if mine else (
            f"shape {given}: no evaluation sample is of this size: evaluated on {len(own[1])} smaller ones, padded"
        )  # fmt: skip
        bases.append(
            Basis(
                replace(recipe, shapes=(given,)), model,
                replace(sources, calibration=own[0], evaluation=own[1], notes=(*sources.notes, note)),
                _label(free, shapes[i]), shapes[i],
            )
        )  # fmt: skip
    whole = Basis(recipe, models[order[-1]], sources)
    return _warned(whole, _named_apart(bases))


def _warned(whole: Basis, bases: Sequence[Basis]) -> tuple[Basis, tuple[Basis, ...]]:
    """The same with the warnings on samples and padding."""
    found = (*_few_samples(bases), *padding_warnings(whole, bases))

    def add(basis: Basis) -> Basis:
        return replace(basis, sources=replace(basis.sources, warnings=(*basis.sources.warnings, *found)))

    return add(whole), tuple(map(add, bases))


def _few_samples(bases: Sequence[Basis]) -> tuple[str, ...]:
    return tuple(
        f"--shape {basis.recipe.shapes[0]}: calibrated on {len(basis.sources.calibration)} samples only, because no "
        "more of this size or smaller were drawn: give more short ones, or --calibration-samples N"
        for basis in bases
        if basis.recipe.is_calibrated and len(basis.sources.calibration) < ENOUGH_TO_CALIBRATE
    )


def padding_warnings(whole: Basis, bases: Sequence[Basis]) -> tuple[str, ...]:
    """Where the float model answers otherwise in a small shape than in the largest: it tells padding from its end."""
    warnings = []
    largest = max((basis.input_shapes for basis in bases), key=_size)
    for basis in bases:
        if basis.input_shapes == largest:
            continue
        some = basis.sources.evaluation[:PADDING_SAMPLES]
        evaluation = run_models(
            {_LARGEST: whole.model.tflite, basis.label: basis.model.tflite}, whole.sources.contract,
            whole.sources.data.evaluation, some, reference=_LARGEST, same_shapes=False,
        )  # fmt: skip
        agreement = evaluation.outcomes[basis.label].agreement
        mean = 1.0 if agreement is None else float(agreement.mean())
        if mean < PADDING_AGREEMENT:
            warnings.append(
                f"--shape {basis.recipe.shapes[0]}: on {len(some)} samples the float model agrees to only {mean:.0%} "
                f"with itself on the same padded to {_text([largest], 0)}: it takes padding for part of the sample "
                "(give the shapes that it was trained with, or train it with a mask)"
            )
    return tuple(warnings)


def held_by(
    specs: Sequence[InputSpec], dataset: Dataset, indices: Indices, buckets: Mapping[str, tuple[Shape, ...]]
) -> tuple[dict[str, Indices], tuple[str, ...], tuple[str, ...]]:
    """(the samples at `indices` that each bucket runs, notes, warnings). Buckets without samples are left out.

    Raises DataError where every sample is larger than all.
    """
    names, shapes = list(buckets), list(buckets.values())
    at = _places(specs, dataset, indices, shapes)
    held = {name: indices[at == i] for i, name in enumerate(names) if (at == i).any()}
    largest = _text(shapes, max(range(len(shapes)), key=lambda i: _size(shapes[i])))
    too_large = int((at < 0).sum())
    if not held:
        raise DataError(f"data {dataset.source}: every sample is larger than the largest shape, {largest}")
    notes = tuple(f"{name}: no sample is of its size" for name in names if name not in held)
    left_out = f"{too_large} of {len(at)} samples are larger than the largest shape, {largest}, and are left out"
    return held, notes, (left_out,) if too_large else ()


def _sample_shapes(model: FloatModel) -> tuple[Shape, ...]:
    return tuple(t.shape[1:] if t.shape[:1] == (1,) else t.shape for t in Graph.read(model.tflite).inputs)


def _varying(shapes: Sequence[tuple[Shape, ...]], recipe: Recipe) -> tuple[Shape, ...]:
    """Each input's shape, FREE where the models differ. Raises UsageError where nothing differs."""
    for i, first in enumerate(shapes):
        for j, second in enumerate(shapes[:i]):
            if first == second:
                raise UsageError(
                    f"--shape {recipe.shapes[j]} and --shape {recipe.shapes[i]} make the same model, {_text(shapes, i)}"
                )
    free = []
    for group in zip(*shapes, strict=True):
        if len({len(shape) for shape in group}) != 1:
            raise UsageError("several --shape: the inputs do not have the same number of axes in all of them")
        free.append(tuple(sizes[0] if len(set(sizes)) == 1 else FREE for sizes in zip(*group, strict=True)))
    return tuple(free)


def _pads(recipe: Recipe, names: Sequence[str]) -> tuple[float, ...]:
    given = recipe.contract or (load_contract(Path(recipe.contract_file)) if recipe.contract_file else None)
    if given is None:
        return (0.0,) * len(names)
    if len(names) == 1:
        return (given.inputs[0].pad,)
    pads = {spec.name: spec.pad for spec in given.inputs}
    return tuple(pads.get(name, 0.0) for name in names)


def _for_inputs(data: Datasets, names: Sequence[str]) -> Datasets:
    first = for_inputs(data.calibration, names)
    return Datasets(first, first if data.is_one else for_inputs(data.evaluation, names))


def _places(
    specs: Sequence[InputSpec], dataset: Dataset, indices: Indices, shapes: Sequence[tuple[Shape, ...]]
) -> Indices:
    """The bucket of each sample at `indices`; -1: larger than all."""
    found = np.full(len(indices), -1, np.int64)
    for position, index in enumerate(indices):
        try:
            at = smallest_holding(specs, dataset.sample(int(index)), shapes)
        except DataError as error:
            raise DataError(f"{dataset.describe(int(index))}: {error.message}", hint=error.hint) from error
        found[position] = -1 if at is None else at
    return found


def _kept(data: Datasets, calibration: Indices, evaluation: Indices) -> tuple[Datasets, Indices, Indices]:
    """Only these samples, and their new indices."""
    if data.is_one:
        union = np.union1d(calibration, evaluation)
        one = data.calibration.subset(union)
        return Datasets(one, one), np.searchsorted(union, calibration), np.searchsorted(union, evaluation)
    first, second = data.calibration.subset(calibration), data.evaluation.subset(evaluation)
    return Datasets(first, second), np.arange(len(first)), np.arange(len(second))


def _own(indices: Indices, at: Indices, bucket: int, smaller: Sequence[int], enough: int) -> Indices:
    """The samples of `bucket`; those of the next smaller ones as well until there are enough."""
    chosen = indices[at == bucket]
    for other in reversed(smaller[:-1]):
        if len(chosen) >= enough:
            break
        chosen = np.concatenate([chosen, indices[at == other]])
    return np.sort(chosen)


def _label(free: Sequence[Shape], shapes: Sequence[Shape]) -> str:
    """Of the inputs whose size differs: "16", "20x10", "16-8" where they are not alike."""
    texts = ["x".join(map(str, shape)) for wanted, shape in zip(free, shapes, strict=True) if FREE in wanted]
    return "-".join(dict.fromkeys(texts))


def _named_apart(bases: Sequence[Basis]) -> tuple[Basis, ...]:
    """Labels that differ: "4-8" may be two inputs of 4 and 8 or of 8 and 4 in part; the second gets a number."""
    seen: dict[str, int] = {}
    named = []
    for basis in bases:
        count = seen[basis.label] = seen.get(basis.label, 0) + 1
        named.append(basis if count == 1 else replace(basis, label=f"{basis.label}-{count}"))
    return tuple(named)


def _size(shapes: Sequence[Shape]) -> int:
    return sum(int(np.prod(shape)) for shape in shapes)


def _text(shapes: Sequence[tuple[Shape, ...]], i: int) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in shapes[i])
