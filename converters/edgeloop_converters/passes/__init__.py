"""Passes: a Graph in, another Graph and a PassReport out. Names load on first use.

Those that lie flat here make a quantized model better by changing constants only: ranges, scales, codes, biases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.lazy import lazy_names

if TYPE_CHECKING:
    from edgeloop_converters.passes.dynamic import add_exits
    from edgeloop_converters.passes.graph import in_series, optimize_graph, side_by_side
    from edgeloop_converters.passes.pruning import prune, prune_blocks, sparsify
    from edgeloop_converters.passes.quantizing import quantize
    from edgeloop_converters.passes.train import distill, fine_tune, qat

__all__ = [
    "add_exits",
    "distill",
    "fine_tune",
    "in_series",
    "optimize_graph",
    "prune",
    "prune_blocks",
    "qat",
    "quantize",
    "side_by_side",
    "sparsify",
]

_HOMES = {
    "add_exits": ".dynamic.exits",
    "in_series": ".graph.joining",
    "optimize_graph": ".graph.optimize",
    "side_by_side": ".graph.joining",
    "distill": ".train.tuning",
    "fine_tune": ".train.tuning",
    "prune": ".pruning.apply",
    "prune_blocks": ".pruning.blocks",
    "sparsify": ".pruning.sparsity",
    "qat": ".train.quantized",
    "quantize": ".quantizing",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
