"""Variants that were compiled for an accelerator: no interpreter of a host runs them, so what is known of them is known
of the variant they were compiled from, their twin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from edgeloop.errors import DeviceError

if TYPE_CHECKING:
    from edgeloop.bundle.golden import Golden
    from edgeloop.graph import Graph


def find_twin(model: bytes, others: Mapping[str, bytes]) -> str:
    """The variant that `model` was compiled from: the same inputs and outputs, and only ops of its beside the program.

    "" where there is none. Weights cannot be compared.
    """
    from edgeloop.edgetpu_compiler import left_on_cpu
    from edgeloop.graph import Graph

    compiled = Graph.read(model)
    for name, content in others.items():
        graph = Graph.read(content)
        if _borders(graph) != _borders(compiled):
            continue
        try:
            left_on_cpu(graph, compiled)
        except DeviceError:
            continue
        return name
    return ""


def with_answers_of(golden: Golden, twin: str, variant: str) -> Golden:
    """`variant` is expected to answer as `twin` does on kernels other than XNNPACK's."""
    from edgeloop.bundle.golden_run import OTHER_KERNELS

    answers = golden.outputs.get(twin)
    if not answers:
        return golden
    family = OTHER_KERNELS if OTHER_KERNELS in answers else next(iter(answers))
    return replace(golden, outputs={**golden.outputs, variant: {family: answers[family]}})


def _borders(graph: Graph) -> list[tuple[object, ...]]:
    """What a contract sees of a model."""
    tensors = (*graph.inputs, *graph.outputs)
    return [(tensor.shape, tensor.dtype, tensor.affine) for tensor in tensors] + [(len(graph.inputs),)]
