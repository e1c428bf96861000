"""The inputs of a contract, brought together with a model and its data: what each is, and that samples go through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeloop.contract import CHANNELS, FREE, Contract, InputSpec
from edgeloop.errors import ConfigError, DataError
from edgeloop.graph import Graph, Tensor
from edgeloop.padding import LARGER_SHAPE, Shape
from edgeloop.preprocess import compile_inputs
from edgeloop_converters.calibration import inputs_of
from edgeloop_converters.data import IMAGE, TENSOR, Dataset, for_inputs, pick
from edgeloop_converters.data.folders import decoded_for
from edgeloop_converters.io_names import input_names

if TYPE_CHECKING:
    from edgeloop_converters.contracts import ContractFlags

_PEEK = 16
_OF_PICTURES = ("size", "color", "resize")
_SPEAK_OF_ONE = ("kind", "size", "color", "mean", "std", "resize")


def input_specs(
    graph: Graph, dataset: Dataset, given: Contract | None, flags: ContractFlags, where: str = "contract"
) -> tuple[InputSpec, ...]:
    """All inputs as file, flags and shapes have them; scaling comes later. Raises ConfigError, DataError."""
    names = input_names(graph)
    if len(names) == 1:
        if given is not None and len(given.inputs) != 1:
            raise ConfigError(f"{where}: {len(given.inputs)} inputs, the model has 1")
        return (input_spec(graph.inputs[0], dataset, given.inputs[0] if given else None, flags),)
    known = {spec.name: spec for spec in given.inputs} if given else {}
    listed = ", ".join(names)
    if given is not None and sorted(known) != sorted(names):
        raise ConfigError(
            f"{where}: its inputs are {', '.join(known) or 'none'} and the model's {listed}",
            hint="one [input.NAME] table per input of the model, called so",
        )
    pictures = [name for name in names if dataset.parts[name].kind == IMAGE]
    if any(getattr(flags, key) is not None for key in _SPEAK_OF_ONE) and len(pictures) != 1:
        flag = next(key for key in _SPEAK_OF_ONE if getattr(flags, key) is not None)
        raise ConfigError(
            f"--{'input-kind' if flag == 'kind' else flag} speaks of one input; the model has {len(names)} ({listed})",
            hint="--contract FILE with an [input.NAME] table for each",
        )
    none = replace(flags, **dict.fromkeys(_SPEAK_OF_ONE))
    return tuple(
        replace(
            input_spec(tensor, dataset.parts[name], known.get(name), flags if name in pictures else none), name=name
        )
        for name, tensor in zip(names, graph.inputs, strict=True)
    )


def of_varying(specs: Sequence[InputSpec], varying: Sequence[Shape] | None) -> tuple[InputSpec, ...]:
    """The inputs with shapes that differ from sample to sample; None: as they are. Raises ConfigError for pictures."""
    if varying is None:
        return tuple(specs)
    found = []
    for spec, shape in zip(specs, varying, strict=True):
        if spec.kind == IMAGE and FREE in shape:
            raise ConfigError(
                f"input '{spec.name}' is a picture: all are brought to one size, so several --shape have no meaning",
                hint="give one --size",
            )
        found.append(spec if spec.kind == IMAGE else replace(spec, shape=tuple(shape)))
    return tuple(found)


def input_spec(tensor: Tensor, dataset: Dataset, given: InputSpec | None, flags: ContractFlags) -> InputSpec:
    """One input, without its scaling unless that was said."""
    shape = tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape
    base = given or InputSpec(tensor.name, shape=shape)
    looks = len(shape) == 3 and shape[-1] in (1, 3)
    kind = flags.kind or (given.kind if given else (IMAGE if looks and dataset.kind == IMAGE else TENSOR))
    if kind == IMAGE and not looks:
        first = len(shape) == 3 and shape[0] in (1, 3)
        raise ConfigError(
            f"model input '{tensor.name}' is {list(tensor.shape)}, not an image [1, height, width, 1 or 3]",
            hint="export the model channels-last" if first else "--input-kind tensor",
        )
    values: dict[str, Any] = {"kind": kind, "name": base.name or tensor.name}
    if kind == IMAGE:
        if flags.size is not None and tuple(flags.size) != tuple(shape[:2]):
            given_size, own = ("x".join(map(str, size)) for size in (flags.size, shape[:2]))
            raise ConfigError(f"--size {given_size}: model input '{tensor.name}' takes {own}", hint="leave out --size")
        values["size"] = flags.size or base.size or (shape[0], shape[1])
        from_shape = "gray" if shape[-1] == 1 else "rgb"
        color = flags.color or (given.color if given else from_shape)
        if CHANNELS[color] != shape[-1]:
            raise ConfigError(f"color '{color}' has {CHANNELS[color]} channels but model input takes {shape[-1]}")
        values["color"], values["shape"] = color, None
    else:
        _refuse_of_pictures(tensor, flags)
        if base.shape is None:
            values["shape"] = shape
    for key in ("mean", "std", "resize"):
        if getattr(flags, key) is not None:
            values[key] = getattr(flags, key)
    return replace(base, **values)


def _refuse_of_pictures(tensor: Tensor, flags: ContractFlags) -> None:
    """Flags that a tensor has no use for: whoever gives them takes the input for a picture."""
    given = [key for key in _OF_PICTURES if getattr(flags, key) is not None]
    if given:
        raise ConfigError(
            f"--{given[0]} speaks of a picture, and model input '{tensor.name}' is a tensor {list(tensor.shape)}",
            hint=f"leave --{given[0]} out, or give --input-kind image where the data are pixels 0..255",
        )


def in_order(contract: Contract, graph: Graph) -> Contract:
    """A complete contract with its inputs in the model's order. Raises ConfigError where they are not the model's."""
    names = input_names(graph)
    if len(contract.inputs) != len(names):
        ours = ", ".join(spec.name for spec in contract.inputs)
        raise ConfigError(
            f"the contract describes {len(contract.inputs)} inputs ({ours}) and the model has {len(names)} "
            f"({', '.join(names)})",
            hint="one [input.NAME] table per input of the model, called so",
        )
    if len(names) == 1:
        return contract
    known = {spec.name: spec for spec in contract.inputs}
    if sorted(known) != sorted(names):
        raise ConfigError(f"the contract's inputs are {', '.join(known)} and the model's {', '.join(names)}")
    return replace(contract, inputs=tuple(known[name] for name in names))


def read_inputs(specs: Sequence[InputSpec], dataset: Dataset) -> Dataset:
    """The data in the form that each input's kind asks for. Raises DataError when they cannot be."""
    names = [spec.name for spec in specs]
    selected = for_inputs(dataset, names)
    if len(specs) == 1:
        return read_by(specs[0], selected)
    if not selected.parts:
        return selected
    parts = {spec.name: read_by(spec, selected.parts[spec.name]) for spec in specs}
    return replace(selected, parts=parts, read=lambda i: {name: part.read(i) for name, part in parts.items()})


def read_by(spec: InputSpec, dataset: Dataset) -> Dataset:
    """The data of one input in the form that the contract's kind asks for. Raises DataError when they cannot be."""
    if spec.kind == TENSOR:
        return dataset.as_tensors()
    if dataset.kind == IMAGE:
        return decoded_for(dataset, spec.decode_size)
    sample = dataset.sample(0)
    pixels = sample.ndim in (2, 3) and (sample.ndim == 2 or sample.shape[-1] in (1, 3))
    if not pixels:
        raise DataError(
            f"data {dataset.source}: samples are {list(sample.shape)}, not images",
            hint="--input-kind tensor, or give pictures",
        )
    values = np.stack([dataset.sample(int(i)) for i in pick(dataset, _PEEK)]).astype(np.float32)
    if not np.isfinite(values).all():
        raise DataError(f"data {dataset.source}: holds NaN or infinity", hint="edgeloop check-data names the samples")
    if values.min() < 0 or values.max() > 255 or (values != np.round(values)).any():
        raise DataError(
            f"data {dataset.source}: values {values.min():.3g}..{values.max():.3g} are not pixels 0..255, as the "
            "contract's image wants them",
            hint="give pixels, or use --input-kind tensor for data that are scaled already",
        )
    read, describe = dataset.read, dataset.describe

    def as_image(i: int) -> np.ndarray:
        frame: np.ndarray = read(i)
        if frame.min() < 0 or frame.max() > 255:
            raise DataError(f"{describe(i)} has values outside 0..255", hint="pixels 0..255, or --input-kind tensor")
        frame = np.round(frame).astype(np.uint8)
        return frame[..., ::-1].copy() if frame.ndim == 3 and frame.shape[-1] == 3 else frame.reshape(frame.shape[:2])

    return replace(dataset, kind=IMAGE, read=as_image)


def check_frames(specs: Sequence[InputSpec], model: Graph, dataset: Dataset) -> None:
    """A few samples must go through the compiled preprocessing. Raises ConfigError, DataError."""
    infos = inputs_of(model)
    prepare = compile_inputs(specs, infos)
    for i in pick(dataset, 4):
        try:
            prepare(dataset.sample(int(i)))
        except DataError as error:
            name, hint = dataset.describe(int(i)), error.hint
            if hint != LARGER_SHAPE:
                hint = _transposed(dataset, infos[0].shape[1:]) or _too_long(dataset, infos[0].shape[1:]) or hint
            message = error.message if name in error.message else f"{name}: {error.message}"
            raise DataError(message, hint=hint) from error


def _transposed(dataset: Dataset, taken: Sequence[int]) -> str | None:
    """What to do where only the order of the axes is wrong."""
    from edgeloop_converters.check_data.inputs import layout_findings

    if dataset.kind != TENSOR or dataset.sample_shape is None:
        return None
    found = layout_findings(dataset.sample_shape, taken, dataset.source)
    return found[0].fix if found else None


def _too_long(dataset: Dataset, taken: Sequence[int]) -> str | None:
    """What to do where samples are larger than an input whose size may have been chosen by `--shape`."""
    sample = dataset.sample_shape
    if dataset.kind != TENSOR or sample is None or len(sample) != len(taken):
        return None
    pairs = list(zip(sample, taken, strict=True))
    is_larger = any(a > b for a, b in pairs) and all(a >= b for a, b in pairs)
    return "where the model leaves that size free: --shape, several times for a variant each" if is_larger else None
