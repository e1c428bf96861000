"""The contract of a conversion: from a TOML file, from flags, or detected from model and data; checked against both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeloop.contract import Contract, InputSpec, OutputSpec, load_contract
from edgeloop.graph import Graph, Op
from edgeloop.padding import Shape
from edgeloop.progress import Progress, SilentProgress
from edgeloop.runtime import open_session
from edgeloop_converters.contract_inputs import (
    check_frames,
    in_order,
    input_spec,
    input_specs,
    of_varying,
    read_by,
    read_inputs,
)
from edgeloop_converters.data import IMAGE, Dataset, fit_labels, for_inputs
from edgeloop_converters.finding_scaling import find_scaling, shifted
from edgeloop_converters.io_names import input_names, output_names, vector_length, with_index
from edgeloop_converters.scalings import WITH_BACKGROUND, choose_scaling

__all__ = ["ContractFlags", "Detected", "complete", "detect_contract", "fit_data", "picture_input", "read_by"]


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
    varying: Sequence[Shape] | None = None,
) -> Detected:
    """Contract for a .tflite and the data it was given. Precedence: flags, then the TOML file, then detection.

    varying: the shape of each input, with FREE where samples differ in size; None: as the model has them.

    Raises ConfigError (contract does not fit the model), DataError (data fit neither).
    """
    flags = flags or ContractFlags()
    graph = Graph.read(model)
    given = load_contract(file) if file is not None else None
    dataset = for_inputs(dataset, input_names(graph))
    specs = of_varying(input_specs(graph, dataset, given, flags, f"contract {file}"), varying)
    output = _output(graph, dataset, given, flags, specs)
    data = read_inputs(specs, dataset)
    check_frames(specs, graph, data)
    data = _fit_labels(data, output, graph)
    notes = _outputs_left(graph, output, given)
    if len(specs) > 1:
        return Detected(Contract(specs, output), data, tuple(notes), _unscaled(specs, given, flags))
    spec = specs[0]
    is_classification = output.kind == "classification"
    settled = given is not None or flags.mean is not None or flags.std is not None
    warnings: list[str] = []
    scores: dict[str, float] = {}
    if not settled:
        with (progress or SilentProgress()).step("finding the input's scaling"):
            tried = data if is_classification else data.unlabelled()
            spec, tried, scores = find_scaling(
                model, graph, Contract((spec,), output), tried, flags.color, seed, notes, warnings
            )
            data = tried if is_classification else data
    elif is_classification:
        data = _with_offset(model, Contract((spec,), output), data, seed)
    return Detected(Contract((spec,), output), data, tuple(notes), tuple(warnings), scores)


def fit_data(contract: Contract, model: bytes, dataset: Dataset, *, seed: int = 0) -> Dataset:
    """Other data (`--eval`) brought in line with a contract that is settled, and checked. Raises DataError."""
    graph = Graph.read(model)
    data = read_inputs(contract.inputs, dataset)
    check_frames(contract.inputs, graph, data)
    data = _fit_labels(data, contract.output, graph)
    return _with_offset(model, contract, data, seed) if contract.output.kind == "classification" else data


def complete(contract: Contract, model: bytes, varying: Sequence[Shape] | None = None) -> Contract:
    """A contract that is not detected, with inputs in the model's order and its output by place. Raises ConfigError."""
    graph = Graph.read(model)
    ordered = in_order(contract, graph)
    return replace(ordered, inputs=of_varying(ordered.inputs, varying), output=with_index(contract.output, graph))


def picture_input(
    model: bytes, dataset: Dataset, *, contract: Contract | None, file: Path | None, flags: ContractFlags
) -> InputSpec | None:
    """Size and way of resizing that the contract will have, before its scaling is known; None where the input is no
    picture or the data are none. Raises ConfigError."""
    graph = Graph.read(model)
    if len(graph.inputs) != 1 or dataset.kind != IMAGE:
        return None
    given = contract or (load_contract(file) if file is not None else None)
    spec = input_spec(graph.inputs[0], dataset, given.inputs[0] if given else None, flags)
    return spec if spec.kind == IMAGE else None


def _outputs_left(graph: Graph, output: OutputSpec, given: Contract | None) -> list[str]:
    """Which of several outputs is decoded, where nobody has said it."""
    names = output_names(graph)
    if len(names) < 2 or output.kind == "detection" or (given is not None and given.output.name):
        return []
    others = ", ".join(name for i, name in enumerate(names) if i != output.index)
    return [
        f"output '{names[output.index]}' is decoded, {others} compared by value; [output] name = ... in a contract "
        "names another"
    ]


def _unscaled(specs: Sequence[InputSpec], given: Contract | None, flags: ContractFlags) -> tuple[str, ...]:
    """Scaling is not looked for where there are several inputs: which pictures go in as they are."""
    pictures = [spec.name for spec in specs if spec.kind == IMAGE]
    if not pictures or given is not None or flags.mean is not None or flags.std is not None:
        return ()
    return (
        f"input scaling of {', '.join(pictures)} is a guess: raw pixels 0..255; say mean and std in a contract with "
        "[input.NAME] tables if the model was trained otherwise",
    )


def _labels(
    graph: Graph, dataset: Dataset, given: Contract | None, flags: ContractFlags, index: int
) -> tuple[str, ...]:
    if flags.labels is not None:
        return flags.labels
    if given is not None and given.output.labels:
        return given.output.labels
    classes = vector_length(graph, index)
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


def _output(
    graph: Graph, dataset: Dataset, given: Contract | None, flags: ContractFlags, specs: Sequence[InputSpec]
) -> OutputSpec:
    said = with_index(given.output if given else OutputSpec(), graph)
    labels = _labels(graph, dataset, given, flags, said.index)
    return replace(said, kind=_output_kind(graph, dataset, given, flags, specs, said.index), labels=labels)


def _output_kind(
    graph: Graph,
    dataset: Dataset,
    given: Contract | None,
    flags: ContractFlags,
    specs: Sequence[InputSpec],
    index: int,
) -> str:
    if flags.output or given is not None:
        return flags.output or given.output.kind  # type: ignore[union-attr]
    if vector_length(graph, index) is None:
        return "raw"
    last = graph.main.ops[-3:] if len(graph.outputs) == 1 else [_producer(graph, index)]
    says_so = bool({op.name for op in last if op is not None} & {"SOFTMAX", "LOG_SOFTMAX"})
    says_so = says_so or dataset.labels is not None or flags.labels is not None
    of_a_picture = len(graph.outputs) == 1 and any(spec.kind == IMAGE for spec in specs)
    return "classification" if says_so or of_a_picture else "raw"


def _producer(graph: Graph, index: int) -> Op | None:
    position = graph.producers().get(graph.main.outputs[index])
    return None if position is None else graph.main.ops[position]


def _fit_labels(dataset: Dataset, output: OutputSpec, graph: Graph) -> Dataset:
    if output.kind != "classification":
        return dataset
    return fit_labels(dataset, output.labels, vector_length(graph, output.index))


def _with_offset(model: bytes, contract: Contract, data: Dataset, seed: int) -> Dataset:
    """Class ids as the model counts them, where it may have a background class in front."""
    output = contract.output.index
    if data.labels is None or data.class_names is not None or len(contract.inputs) != 1:
        return data
    if vector_length(Graph.read(model), output) != WITH_BACKGROUND:
        return data
    with open_session(model) as session:
        choice = choose_scaling(session, data, [(contract.inputs[0], "as given")], output=output, seed=seed)
    return data if choice is None else shifted(data, choice.best.offset)
