"""What the inputs and outputs of a model are called: by its signature, else by their tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgeloop.contract import OutputSpec
from edgeloop.decoding import DetectionSettings, Settings
from edgeloop.errors import ConfigError
from edgeloop.graph import Graph
from edgeloop.graph.parts import output_names as output_names


def input_names(graph: Graph) -> tuple[str, ...]:
    """In the model's order."""
    known = next((s.inputs for s in graph.signatures if s.subgraph == 0), {})
    by_index = {index: name for name, index in known.items()}
    return tuple(by_index.get(i, graph.main.tensors[i].name) for i in graph.main.inputs)


def vector_length(graph: Graph, index: int) -> int | None:
    """Length of the output at `index`, if that is a vector."""
    shape = [n for n in graph.outputs[index].shape if n != 1]
    return shape[0] if len(shape) == 1 else None


def unread_inputs(graph: Graph) -> tuple[int, ...]:
    """Inputs of the main subgraph (tensors) that no op takes."""
    main = graph.main
    read = {index for op in main.ops for index in op.inputs} | set(main.outputs)
    return tuple(index for index in main.inputs if index not in read)


def with_index(output: OutputSpec, graph: Graph) -> OutputSpec:
    """The output that the contract names, by its place. Raises ConfigError listing what there is."""
    names = output_names(graph)
    output = replace(output, settings=_by_place(output.settings, names))
    if output.name:
        if output.name not in names:
            raise ConfigError(f"the model has no output '{output.name}'", hint=f"it has: {', '.join(names)}")
        return replace(output, index=names.index(output.name))
    if output.index >= len(names):
        raise ConfigError(f"the contract decodes output {output.index} and the model has {len(names)}, counted from 0")
    return output


def _by_place(settings: Settings | None, names: Sequence[str]) -> Settings | None:
    """The parts of a detection that the contract names, by their places."""
    if not isinstance(settings, DetectionSettings):
        return settings
    places: dict[str, int] = {}
    for part, name in settings.tensors.items():
        if isinstance(name, str):
            if name not in names:
                raise ConfigError(f"the model has no output '{name}' ({part})", hint=f"it has: {', '.join(names)}")
            places[part] = names.index(name)
    return replace(settings, **places)  # type: ignore[arg-type]
