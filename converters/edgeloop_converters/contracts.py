"""The contract of a conversion: from a TOML file, from flags, or detected from model and data; checked against both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeloop.contract import CHANNELS, Contract, InputSpec, OutputSpec, load_contract
from edgeloop.errors import ConfigError, DataError
from edgeloop.graph import Graph, Tensor
from edgeloop.preprocess import compile_input
from edgeloop.progress import Progress, SilentProgress
from edgeloop.runtime import open_session
from edgeloop_converters.calibration import input_infos
from edgeloop_converters.data import IMAGE, TENSOR, Dataset, fit_labels, pick
from edgeloop_converters.evidence import input_evidence
from edgeloop_converters.scalings import WITH_BACKGROUND, Choice, candidates, choose_scaling

_PEEK = 16


@dataclass(frozen=True)
class ContractFlags:
    """What the command line says; None means: detect it."""

    kind: str | None = None
    size: tuple[int, int] | None = None
    color: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: str | None = None
    output: str | None = None
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Detected:
    """The contract, the data as this contract reads them (class ids renumbered, images as tensors where asked), and
    what was found out on the way. scores: accuracy by scaling, where scalings were tried."""

    contract: Contract
    data: Dataset
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)


def detect_contract(
    model: bytes,
    dataset: Dataset,
    *,
    file: Path | None = None,
    flags: ContractFlags | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Detected:
    """Contract for a .tflite and the data it was given. Precedence: flags, then the TOML file, then detection.

    Raises ConfigError (contract does not fit the model), DataError (data fit neither).
    """
    flags = flags or ContractFlags()
    graph = Graph.read(model)
    _one_input(graph)
    given = load_contract(file) if file is not None else None
    if given is not None and len(given.inputs) != 1:
        raise ConfigError(f"contract {file}: {len(given.inputs)} inputs, the model has 1")
    spec = _input_spec(graph.inputs[0], dataset, given.inputs[0] if given else None, flags)
    labels = _labels(graph, dataset, given, flags)
    output = OutputSpec(_output_kind(graph, dataset, given, flags, spec), labels)
    data = read_by(spec, dataset)
    _check_frames(spec, model, data)
    data = _fit_labels(data, output, graph)
    is_classification = output.kind == "classification"
    settled = given is not None or flags.mean is not None or flags.std is not None
    notes: list[str] = []
    warnings: list[str] = []
    scores: dict[str, float] = {}
    if not settled:
        with (progress or SilentProgress()).step("finding the input's scaling"):
            tried = data if is_classification else data.unlabelled()
            spec, tried, scores = _find_scaling(model, graph, spec, tried, flags, seed, notes, warnings)
            data = tried if is_classification else data
    elif is_classification:
        data = _with_offset(model, Contract((spec,), output), data, seed)
    return Detected(Contract((spec,), output), data, tuple(notes), tuple(warnings), scores)


def fit_data(contract: Contract, model: bytes, dataset: Dataset, *, seed: int = 0) -> Dataset:
    """Other data (`--eval`) brought in line with a contract that is settled, and checked. Raises DataError."""
    graph = Graph.read(model)
    _one_input(graph)
    data = read_by(contract.inputs[0], dataset)
    _check_frames(contract.inputs[0], model, data)
    data = _fit_labels(data, contract.output, graph)
    return _with_offset(model, contract, data, seed) if contract.output.kind == "classification" else data


def picture_input(
    model: bytes, dataset: Dataset, *, contract: Contract | None, file: Path | None, flags: ContractFlags
) -> InputSpec | None:
    """Size and way of resizing that the contract will have, before its scaling is known; None where the input is no
    picture or the data are none. Raises ConfigError."""
    graph = Graph.read(model)
    if len(graph.inputs) != 1 or dataset.kind != IMAGE:
        return None
    given = contract or (load_contract(file) if file is not None else None)
    spec = _input_spec(graph.inputs[0], dataset, given.inputs[0] if given else None, flags)
    return spec if spec.kind == IMAGE else None


def _one_input(graph: Graph) -> None:
    if len(graph.inputs) != 1:
        names = ", ".join(t.name for t in graph.inputs)
        raise DataError(f"the model has {len(graph.inputs)} inputs ({names}); data sets hold one array per sample")


def _input_spec(tensor: Tensor, dataset: Dataset, given: InputSpec | None, flags: ContractFlags) -> InputSpec:
    """The input as file, flags and shapes have it; scaling comes later."""
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
        values["size"] = flags.size or base.size or (shape[0], shape[1])
        from_shape = "gray" if shape[-1] == 1 else "rgb"
        color = flags.color or (given.color if given else from_shape)
        if CHANNELS[color] != shape[-1]:
            raise ConfigError(f"color '{color}' has {CHANNELS[color]} channels but model input takes {shape[-1]}")
        values["color"], values["shape"] = color, None
    elif base.shape is None:
        values["shape"] = shape
    for key in ("mean", "std", "resize"):
        if getattr(flags, key) is not None:
            values[key] = getattr(flags, key)
    return replace(base, **values)


def _labels(graph: Graph, dataset: Dataset, given: Contract | None, flags: ContractFlags) -> tuple[str, ...]:
    if flags.labels is not None:
        return flags.labels
    if given is not None and given.output.labels:
        return given.output.labels
    classes = _classes(graph)
    names = dataset.class_names
    return tuple(names) if names is not None and len(names) == classes else _labels_inside(graph, classes)


def _labels_inside(graph: Graph, classes: int | None) -> tuple[str, ...]:
    """Labels packed into the file by TFLite Metadata, when there is one per output."""
    for name, content in graph.associated_files().items():
        if name.endswith(".txt"):
            lines = tuple(line.strip() for line in content.decode("utf-8", "replace").splitlines() if line.strip())
            if len(lines) == classes:
                return lines
    return ()


def _classes(graph: Graph) -> int | None:
    """Length of the one output, if that is a vector."""
    if len(graph.outputs) != 1:
        return None
    shape = [n for n in graph.outputs[0].shape if n != 1]
    return shape[0] if len(shape) == 1 else None


def _output_kind(graph: Graph, dataset: Dataset, given: Contract | None, flags: ContractFlags, spec: InputSpec) -> str:
    if flags.output or given is not None:
        return flags.output or given.output.kind  # type: ignore[union-attr]
    classes = _classes(graph)
    if classes is None:
        return "raw"
    names = {op.name for op in graph.main.ops[-3:]}
    says_so = bool(names & {"SOFTMAX", "LOG_SOFTMAX"}) or dataset.labels is not None or flags.labels is not None
    return "classification" if says_so or spec.kind == IMAGE else "raw"


def read_by(spec: InputSpec, dataset: Dataset) -> Dataset:
    """The data in the form that the contract's kind asks for. Raises DataError when they cannot be."""
    if spec.kind == TENSOR:
        return dataset.as_tensors()
    if dataset.kind == IMAGE:
        return dataset
    sample = dataset.sample(0)
    pixels = sample.ndim in (2, 3) and (sample.ndim == 2 or sample.shape[-1] in (1, 3))
    if not pixels:
        raise DataError(f"data {dataset.source}: samples are {list(sample.shape)}, not images")
    values = np.stack([dataset.sample(int(i)) for i in pick(dataset, _PEEK)]).astype(np.float32)
    if not np.isfinite(values).all():
        raise DataError(f"data {dataset.source}: holds NaN or infinity")
    if values.min() < 0 or values.max() > 255 or (values != np.round(values)).any():
        raise DataError(
            f"data {dataset.source}: values {values.min():.3g}..{values.max():.3g} are not pixels 0..255, as the "
            "contract's image wants them",
            hint="give pixels, or use --input-kind tensor for data that are scaled already",
        )
    read, describe = dataset.read, dataset.describe

    def as_image(i: int) -> np.ndarray:
        frame = read(i)
        if frame.min() < 0 or frame.max() > 255:
            raise DataError(f"{describe(i)} has values outside 0..255")
        frame = np.round(frame).astype(np.uint8)
        return frame[..., ::-1].copy() if frame.ndim == 3 and frame.shape[-1] == 3 else frame.reshape(frame.shape[:2])

    return replace(dataset, kind=IMAGE, read=as_image)


def _check_frames(spec: InputSpec, model: bytes, dataset: Dataset) -> None:
    """A few samples must go through the compiled preprocessing. Raises ConfigError, DataError."""
    prepare = compile_input(spec, input_infos(model)[0])
    for i in pick(dataset, 4):
        try:
            prepare(dataset.sample(int(i)))
        except DataError as error:
            name, hint = dataset.describe(int(i)), error.hint or _transposed(dataset, model)
            message = error.message if name in error.message else f"{name}: {error.message}"
            raise DataError(message, hint=hint) from error


def _transposed(dataset: Dataset, model: bytes) -> str | None:
    """What to do where only the order of the axes is wrong."""
    from edgeloop_converters.check_data.inputs import layout_findings

    if dataset.kind != TENSOR or dataset.sample_shape is None:
        return None
    found = layout_findings(dataset.sample_shape, input_infos(model)[0].shape[1:], dataset.source)
    return found[0].fix if found else None


def _fit_labels(dataset: Dataset, output: OutputSpec, graph: Graph) -> Dataset:
    if output.kind != "classification":
        return dataset
    return fit_labels(dataset, output.labels, _classes(graph))


def _find_scaling(
    model: bytes,
    graph: Graph,
    spec: InputSpec,
    data: Dataset,
    flags: ContractFlags,
    seed: int,
    notes: list[str],
    warnings: list[str],
) -> tuple[InputSpec, Dataset, dict[str, float]]:
    """(input with scaling, data with class ids as the model counts them, accuracy by scaling)."""
    colors: Sequence[str] = ()
    if spec.kind == IMAGE:
        free = flags.color is None and spec.color != "gray"
        colors = ("rgb", "bgr") if free else (spec.color,)
    options = candidates(spec, colors) if colors or _looks_like_pixels(data) else [(spec, "values as they are")]
    with open_session(model) as session:
        choice = choose_scaling(session, data, options, seed=seed)
    if choice is None:
        return _without_labels(graph, spec, data, notes, warnings)
    scores = {t.full_title: t.accuracy for t in choice.trials}
    best = choice.best
    if choice.is_chance:
        warnings.append(_no_better_than_guessing(choice, data))
    if len(options) > 1:
        others = [f"{t.full_title}: {t.accuracy:.1%}" for t in choice.trials if t is not best][:3]
        notes.append(
            f"input scaling: {best.full_title}: {best.accuracy:.1%} of {choice.samples} labelled samples right with it"
            + ("" if choice.clear else ", though it is not far ahead")
            + (f" ({'; '.join(others)})" if others else "")
        )
    elif best.offset:
        notes.append(f"class ids + 1: the model has {choice.classes} outputs, a background class in front")
    return best.spec, _shifted(data, best.offset), scores


def _no_better_than_guessing(choice: Choice, data: Dataset) -> str:
    text = (
        f"the model gets {choice.best.accuracy:.0%} of {choice.samples} samples right, no better than guessing: check "
        "the scaling (--mean, --std, --color) and that the labels are in the model's class order"
    )
    if data.kind == TENSOR and data.sample(0).dtype.kind in "iu":
        text += "; for data stored as quantized codes, --mean is their zero point and --std is 1 / scale"
    return text


def _without_labels(
    graph: Graph, spec: InputSpec, data: Dataset, notes: list[str], warnings: list[str]
) -> tuple[InputSpec, Dataset, dict[str, float]]:
    evidence = input_evidence(graph)
    if evidence is not None and (spec.kind == IMAGE or _looks_like_pixels(data)):
        found = replace(spec, mean=(evidence.mean,), std=(evidence.std,))
        notes.append(f"input scaling: mean {evidence.mean:g}, std {evidence.std:g}, because {evidence.why}")
        return found, data, {}
    if spec.kind == IMAGE:
        order = "" if spec.color == "gray" else f" in {spec.color} order"
        warnings.append(
            f"input scaling is a guess: raw pixels 0..255{order}, because nothing in the model or the data tells; say "
            "--mean and --std (or give labelled data) if the model was trained otherwise"
        )
    return spec, data, {}


def _looks_like_pixels(data: Dataset) -> bool:
    """Tensors [H, W, C] of whole numbers 0..255 with more than a few gray levels."""
    if data.kind != TENSOR:
        return False
    sample = data.sample(0)
    if sample.ndim not in (2, 3) or (sample.ndim == 3 and sample.shape[-1] not in (1, 3)):
        return False
    values = np.stack([data.sample(int(i)) for i in pick(data, _PEEK)])
    whole = values.dtype.kind in "iu" or bool((values == np.round(values)).all())
    return whole and float(values.min()) >= 0 and 16 < float(values.max()) <= 255


def _with_offset(model: bytes, contract: Contract, data: Dataset, seed: int) -> Dataset:
    """Class ids as the model counts them, where it may have a background class in front."""
    if data.labels is None or data.class_names is not None or _classes(Graph.read(model)) != WITH_BACKGROUND:
        return data
    with open_session(model) as session:
        choice = choose_scaling(session, data, [(contract.inputs[0], "as given")], seed=seed)
    return data if choice is None else _shifted(data, choice.best.offset)


def _shifted(data: Dataset, offset: int) -> Dataset:
    if not offset or data.labels is None:
        return data
    return replace(data, labels=data.labels + offset)
