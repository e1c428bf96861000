"""Where the ops of an exported file run on a target, as the report has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgeloop.errors import EdgeloopError
from edgeloop.targets import Target

if TYPE_CHECKING:
    from edgeloop.analysis import Confirmation


def analysis_summary(
    model: bytes, target: Target | None, confirmed: Mapping[str, Confirmation] | None = None
) -> dict[str, Any] | None:
    """`Analysis.to_dict()`, with MACs, output shape and data type for every op; None where the file cannot be read.

    confirmed: by delegate, what its compiler really took.
    """
    from edgeloop.analysis import analyze
    from edgeloop.graph import Graph

    try:
        found = analyze(Graph.read(model), target, confirmed=confirmed)
    except EdgeloopError:  # a report without it is better than none
        return None
    plain = found.to_dict()
    costs = [{"macs": op.macs, "output": list(op.output), "dtype": op.dtype} for op in found.ops]
    return {**plain, "ops": [{**op, **cost} for op, cost in zip(plain["ops"], costs, strict=True)]}
