"""Graph rewriting: the same function with fewer ops, less work and less memory; and models put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.lazy import lazy_names

if TYPE_CHECKING:
    from edgeloop_converters.passes.graph.joining import in_series, side_by_side
    from edgeloop_converters.passes.graph.optimize import optimize_graph

__all__ = ["in_series", "optimize_graph", "side_by_side"]

_HOMES = {
    "optimize_graph": ".optimize",
    "in_series": ".joining",
    "side_by_side": ".joining",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
