"""The governor's law on a recorded load: what it would have done, and what would have come of it. Pure.

What was measured at the level that ran is carried over to another one by what the programs cost: the model's part of a
latency in proportion, the rest unchanged; work in proportion; heat with the root of the work, as the law itself
assumes. Throttling stays as it was recorded, so a governor that keeps the board cool is not credited for it.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from edgeloop_agent.activation.governor import THERMAL_SPAN_C, Signals, State, step
from edgeloop_agent.activation.levels import Law, Level
from edgeloop_agent.activation.load_trace import LoadTrace

SWITCH_S = 0.005


@dataclass
class Course:
    """How a run went. Per step: time, p95, temperature, level (index in `levels`); per window whether p95 met the
    budget. switches: (time, from, to), with why in `reasons`."""

    levels: Sequence[Level]
    times_s: list[float] = field(default_factory=list)
    p95_ms: list[float] = field(default_factory=list)
    temperature_c: list[float] = field(default_factory=list)
    level: list[int] = field(default_factory=list)
    activation: list[float] = field(default_factory=list)
    windows_met: list[bool] = field(default_factory=list)
    switches: list[tuple[float, int, int]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def held(self) -> float:
        """Share of the windows that met the budget; 1 where there was nothing to measure."""
        return sum(self.windows_met) / len(self.windows_met) if self.windows_met else 1.0

    @property
    def metric(self) -> float | None:
        """Of the programs that ran, averaged over time; None where one of them was not measured."""
        metrics = [self.levels[i].program.metric for i in self.level]
        known = [m for m in metrics if m is not None]
        return sum(known) / len(known) if known and len(known) == len(metrics) else None

    @property
    def shares(self) -> dict[str, float]:
        """Share of the time at each level."""
        return {str(self.levels[i]): n / len(self.level) for i, n in sorted(Counter(self.level).items())}

    @property
    def shortest_gap_s(self) -> float | None:
        return min((b[0] - a[0] for a, b in itertools.pairwise(self.switches)), default=None)

    def oscillations(self, within_s: float) -> int:
        """How often a level was entered, left, and entered again, all within so many seconds."""
        found = 0
        for (t0, a, b), (t1, c, d) in zip(self.switches, self.switches[2:], strict=False):
            found += (a, b) == (c, d) and t1 - t0 <= within_s
        return found


class Drive:
    """The law step by step over whatever gives signals. `governed` False stays on the first level."""

    def __init__(self, levels: Sequence[Level], law: Law, *, governed: bool = True) -> None:
        self.course = Course(levels)
        self._law = law
        self._governed = governed
        self._state = State()

    @property
    def level(self) -> Level:
        return self.course.levels[self._state.level]

    def step(self, signals: Signals) -> None:
        course, before = self.course, self._state
        for column, value in (
            (course.times_s, signals.time_s), (course.p95_ms, signals.p95_ms or 0.0),
            (course.temperature_c, signals.temperature_c or 0.0), (course.level, before.level),
        ):  # fmt: skip
            column.append(value)  # type: ignore[arg-type]
        if self._governed:
            self._state, decision = step(course.levels, self._law, before, signals, switch_s=SWITCH_S)
            if self._state.level != before.level:
                course.switches.append((signals.time_s, before.level, self._state.level))
                course.reasons.append(decision.reason)
        course.activation.append(self._state.activation)


def replay(trace: LoadTrace, levels: Sequence[Level], law: Law, *, governed: bool = True) -> Course:
    """The law over a recording. A window is one of its steps."""
    drive = Drive(levels, law, governed=governed)
    began_s = trace.steps[0].signals.time_s
    for recorded in trace.steps:
        signals = at_level(recorded.signals, recorded.level, drive.level, law)
        if signals.p95_ms is not None and law.latency_budget_ms is not None:
            drive.course.windows_met.append(signals.p95_ms <= law.latency_budget_ms)
        drive.step(replace(signals, time_s=signals.time_s - began_s))
    return drive.course


def at_level(signals: Signals, ran: Level, other: Level, law: Law) -> Signals:
    """What would have been measured at `other` where `signals` were measured at `ran`."""
    if ran == other:
        return signals
    overhead_ms = signals.overhead_ms
    p95_ms = signals.p95_ms
    if p95_ms is not None:
        model_ms = max(0.0, p95_ms - overhead_ms)
        p95_ms = min(p95_ms, overhead_ms) + model_ms * other.program.latency_ms / max(ran.program.latency_ms, 1e-6)
    work = _work_ms(other, overhead_ms) / max(_work_ms(ran, overhead_ms), 1e-6)
    busy = None if signals.busy is None else signals.busy / max(0.05, 1.0 - signals.dropped) * work
    return replace(
        signals, p95_ms=p95_ms, busy=busy, dropped=0.0, temperature_c=_warmth(signals.temperature_c, work, law)
    )  # fmt: skip


def _work_ms(level: Level, overhead_ms: float) -> float:
    return (overhead_ms + level.program.work_ms) / level.stride


def _warmth(temperature_c: float | None, work: float, law: Law) -> float | None:
    if temperature_c is None or law.temperature_limit_c is None:
        return temperature_c
    load = 1.0 + (temperature_c - law.temperature_limit_c) / THERMAL_SPAN_C
    if load <= 0:
        return temperature_c
    return law.temperature_limit_c + (load * math.sqrt(work) - 1.0) * THERMAL_SPAN_C
