"""Instructions that an inference takes on an emulated CPU: counts, which rank models, and never a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

LABEL = "instructions, not time"


@dataclass(frozen=True)
class Instructions:
    """Of one inference. simd: SIMD and floating point; dot: integer dot products, which are SIMD, too; memory: loads
    and stores."""

    instructions: int
    simd_instructions: int
    memory_instructions: int
    dot_instructions: int

    def __add__(self, other: Instructions) -> Instructions:
        return Instructions(*(a + b for a, b in zip(self.values, other.values, strict=True)))

    def __sub__(self, other: Instructions) -> Instructions:
        return Instructions(*(a - b for a, b in zip(self.values, other.values, strict=True)))

    @property
    def values(self) -> tuple[int, int, int, int]:
        return self.instructions, self.simd_instructions, self.memory_instructions, self.dot_instructions


NOTHING = Instructions(0, 0, 0, 0)


@dataclass(frozen=True)
class OpGroup:
    """All ops of one kind: builtin name, how many, what they take each alone, on their shapes."""

    op: str
    count: int
    cost: Instructions


@dataclass(frozen=True)
class Counted:
    """One model on one emulated CPU. groups: () where the ops were not looked at."""

    model: str
    device: str
    runtime: str
    delegated_ops: int
    total_ops: int
    cost: Instructions
    groups: tuple[OpGroup, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "model": self.model, "device": self.device, "runtime": self.runtime, "label": LABEL,
            "delegated_ops": self.delegated_ops, "total_ops": self.total_ops, **asdict(self.cost),
        }  # fmt: skip
        if self.groups:
            found["op_groups"] = [{"op": g.op, "count": g.count, **asdict(g.cost)} for g in self.groups]
        return found


def as_dict(counted: Sequence[Counted]) -> dict[str, Any]:
    """`bench --json`: the first model's keys at the top, all under `results`."""
    return {**counted[0].to_dict(), "results": [one.to_dict() for one in counted]}


def as_text(counted: Sequence[Counted]) -> str:
    """A table for people, in thousands."""
    first = counted[0]
    width = max(5, *(len(one.model) for one in counted), *(len(g.op) + 6 for one in counted for g in one.groups))
    lines = [
        f"{first.device}, {first.runtime}, 1 thread; {LABEL}: they rank models, caches and clocks are not in them",
        f"{'model':<{width}} {'ops':>7} {'SIMD k':>10} {'dot k':>10} {'memory k':>10} {'all k':>10}",
    ]
    for one in counted:
        lines.append(_row(one.model, f"{one.delegated_ops}/{one.total_ops}", one.cost, width))
        lines += [_row(f"  {group.op}", f"{group.count}", group.cost, width) for group in one.groups]
    return "\n".join(lines)


def _row(name: str, ops: str, cost: Instructions, width: int) -> str:
    every, simd, memory, dot = (value / 1e3 for value in cost.values)
    return f"{name:<{width}} {ops:>7} {simd:>10,.1f} {dot:>10,.1f} {memory:>10,.1f} {every:>10,.1f}"
