"""Pruning: channels, blocks and single weights taken out of a float model. `prune` is the usual way in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.lazy import lazy_names

if TYPE_CHECKING:
    from edgeloop_converters.passes.pruning.apply import apply_prune, prune
    from edgeloop_converters.passes.pruning.blocks import find_blocks, prune_blocks
    from edgeloop_converters.passes.pruning.plan import GroupPlan, PrunePlan
    from edgeloop_converters.passes.pruning.sparsity import sparsify
    from edgeloop_converters.passes.pruning.survey import Survey, plan_prune

__all__ = [
    "GroupPlan",
    "PrunePlan",
    "Survey",
    "apply_prune",
    "find_blocks",
    "plan_prune",
    "prune",
    "prune_blocks",
    "sparsify",
]

_HOMES = {
    "prune": ".apply",
    "apply_prune": ".apply",
    "find_blocks": ".blocks",
    "prune_blocks": ".blocks",
    "plan_prune": ".survey",
    "sparsify": ".sparsity",
    "PrunePlan": ".plan",
    "GroupPlan": ".plan",
    "Survey": ".survey",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
