"""The levels a governor moves among: programs that answer a frame, at strides, and the law that orders them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeloop.errors import ConfigError


@dataclass(frozen=True)
class Program:
    """A way to answer a frame: a variant, or a cascade of two. latency_ms: what it takes in a slow frame; work_ms: on
    average; without reading, preprocessing and decoding. metric: measured, 0..1."""

    name: str
    latency_ms: float
    work_ms: float
    metric: float | None = None


@dataclass(frozen=True)
class Law:
    """Settings. `steepness` is lambda, `midpoint` is t0. None: no such limit.

    prefer: what is given up last, "rate" (lighter programs before larger strides) or "accuracy" (strides first).
    margin: a level is entered only if it is affordable with this share to spare. quiet: the least f.
    """

    latency_budget_ms: float | None = None
    temperature_limit_c: float | None = None
    accuracy_floor: float | None = None
    max_stride: int = 1
    prefer: str = "rate"
    dwell_s: float = 5.0
    margin: float = 0.25
    quiet: float = 0.8
    steepness: float = 1.0
    midpoint: float = 0.0


@dataclass(frozen=True)
class Level:
    """A program on every `stride`-th frame."""

    program: Program
    stride: int = 1

    def __str__(self) -> str:
        return self.program.name if self.stride == 1 else f"{self.program.name}, every {self.stride}. frame"


def ladder(programs: Sequence[Program], law: Law) -> tuple[Level, ...]:
    """The levels, most active first, of the programs that meet the accuracy floor.

    `programs[0]` is the one meant for the board: those dearer in a slow frame as well as on average are left out, and
    those that a cheaper one equals. Raises ConfigError where not one meets the floor.
    """
    floor = law.accuracy_floor
    allowed = [p for p in programs if floor is None or (p.metric is not None and p.metric >= floor)]
    if not allowed:
        raise ConfigError(
            f"no variant has a measured metric of at least {floor:g}",
            hint="lower accuracy_floor, or convert with --eval so that variants are measured",
        )
    best = allowed[0]
    lighter = [p for p in allowed if p is best or p.work_ms < best.work_ms or p.latency_ms < best.latency_ms]
    kept = [p for p in lighter if not any(_dominates(q, p) for q in lighter)]
    kept.sort(key=lambda p: (p is not best, -p.latency_ms, -p.work_ms))
    strides = [1 << i for i in range(law.max_stride.bit_length()) if 1 << i <= law.max_stride]
    if law.prefer == "accuracy":
        return tuple(Level(p, s) for p in kept for s in strides)
    return (*(Level(p, 1) for p in kept), *(Level(kept[-1], s) for s in strides[1:]))


def shortcomings(levels: Sequence[Level], law: Law, *, has_sensor: bool) -> tuple[str, ...]:
    """The limits that can be measured but not kept with these levels, or not even measured: a line each."""
    said = []
    budget_ms, limit_c = law.latency_budget_ms, law.temperature_limit_c
    if budget_ms is not None and len({level.program.name for level in levels}) == 1:
        why = " (passing over frames makes none faster)" if len(levels) > 1 else ""
        said.append(f"latency budget {budget_ms:g} ms: no lighter variant to switch to{why}")
    if limit_c is not None and not has_sensor:
        said.append(f"temperature limit {limit_c:g} C: no temperature sensor found, so it has no effect")
    elif limit_c is not None and len(levels) == 1:
        said.append(f"temperature limit {limit_c:g} C: nothing to switch to; a max_stride above 1 would allow it")
    return tuple(said)


def _dominates(q: Program, p: Program) -> bool:
    """q costs no more than p and is no worse: p is never needed. Unmeasured programs are not compared."""
    if q is p or q.metric is None or p.metric is None:
        return False
    a, b = (q.work_ms, q.latency_ms, -q.metric), (p.work_ms, p.latency_ms, -p.metric)
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))
