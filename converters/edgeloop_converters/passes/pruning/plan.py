"""Structured pruning as a plan: which channels of which group go, why, and what that saves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop_converters.passes.pruning.channels import Channels, find_channels


@dataclass(frozen=True)
class Merge:
    """Channel `gone` is about slope * channel `into` + shift; positions in the group."""

    gone: int
    into: int
    slope: float
    shift: float


@dataclass(frozen=True)
class GroupPlan:
    """kept: positions in the group, rising. reason: for people. merges: what the kept ones take over (score
    "correlation").
    """

    name: str
    width: int
    kept: tuple[int, ...]
    reason: str
    merges: tuple[Merge, ...] = ()


@dataclass(frozen=True)
class PrunePlan:
    """before, after: macs, bytes (of float weights), peak_memory_bytes, and cost where another one is the goal."""

    score: str
    groups: tuple[GroupPlan, ...]
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)

    @property
    def kept(self) -> dict[str, tuple[int, ...]]:
        return {group.name: group.kept for group in self.groups}

    def lines(self) -> list[str]:
        """For people, one per group and one for the whole."""
        told = [f"{g.name[-60:]}: {g.width} -> {len(g.kept)} channels, {g.reason}" for g in self.groups]
        saved = ", ".join(
            f"{name} {self.before[name]:,.0f} -> {self.after[name]:,.0f} ({self.after[name] / self.before[name]:.2f}x)"
            for name in self.before
            if self.before[name]
        )
        return [*told, f"predicted: {saved}"]


def channels_of(graph: Graph, plan: PrunePlan) -> Channels:
    """Of the graph that the plan was made for. Raises UsageError for another one."""
    channels = find_channels(graph)
    for group in plan.groups:
        if channels.group(group.name).width != group.width:
            raise UsageError(f"the plan is for another model: group '{group.name}' was {group.width} channels wide")
    return channels
