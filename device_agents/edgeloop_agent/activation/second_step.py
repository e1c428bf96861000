"""Answers in two steps: a cheap first one, and a second where that is not sure (a cascade, an exit head). Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgeloop_agent.activation.levels import Program

_WEIGHT = 0.02
_UNUSUAL_SHARE = 0.05  # a share that a 95th percentile sees


class SecondStep:
    """How often the second step follows. share: of the latest inferences; until any was made, what is expected."""

    def __init__(self, expected: float) -> None:
        self.share = expected

    def saw(self, follows: bool) -> None:
        self.share += _WEIGHT * (follows - self.share)


@dataclass(frozen=True)
class Cost:
    """What a variant takes on this device. second_ms: of the part that an exit head may spare; 0 without one."""

    first_ms: float
    second_ms: float = 0.0

    @property
    def whole_ms(self) -> float:
        return self.first_ms + self.second_ms


def in_two_steps(program: Program, cost: Cost, share: float) -> Program:
    """The program, where the second step follows for this share of the frames: on average that, in a slow frame all."""
    slow_ms = cost.whole_ms if share > _UNUSUAL_SHARE else cost.first_ms
    return replace(program, latency_ms=slow_ms, work_ms=cost.first_ms + share * cost.second_ms)
