"""A board in software for the governor: latency, heat, throttling and other tenants, with no clock but its own.

A camera gives FPS frames a second; a frame that comes while one is in work is dropped. Work heats the board towards
ambient + HEAT_C * busy share with the time constant TAU_S; at THROTTLE_C the clock is halved until it has cooled by
5 degrees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeloop_agent.activation.governor import Signals
from edgeloop_agent.activation.levels import Law, Level, Program, ladder
from edgeloop_agent.activation.replay import Course, Drive

FPS = 20.0
TICK_S = 0.5
WINDOW_S = 1.0
HEAT_C, TAU_S, THROTTLE_C = 50.0, 45.0, 80.0
OVERHEAD_MS = 3.0
PROGRAMS = (
    Program("heavy", 40.0, 40.0, 0.91),
    Program("middle", 20.0, 20.0, 0.89),
    Program("light", 8.0, 8.0, 0.84),
)
LAW = Law(latency_budget_ms=55.0, temperature_limit_c=76.0, max_stride=4)


@dataclass(frozen=True)
class Scenario:
    """`slowdown(t)`: what other tenants make of every latency; `ambient_c(t)`: around the board."""

    name: str
    seconds: float
    slowdown: Callable[[float], float] = lambda _t: 1.0
    ambient_c: Callable[[float], float] = lambda _t: 25.0


SCENARIOS = (
    Scenario("thermal ramp", 900, ambient_c=lambda t: 25.0 + 30.0 * min(1.0, t / 300)),
    Scenario("bursts", 900, slowdown=lambda t: 2.4 if t % 90 < 60 else 1.0),
    Scenario("co-tenant", 900, slowdown=lambda t: 1.0 + 0.9 * (120 < t < 780) + 0.15 * math.sin(t / 3)),
)


def run(scenario: Scenario, *, law: Law = LAW, programs: Sequence[Program] = PROGRAMS, governed: bool = True) -> Course:
    """Play a scenario; `governed=False` stays on the first level."""
    random = np.random.default_rng(7)
    drive = Drive(ladder(programs, law), law, governed=governed)
    temperature_c, is_throttled = scenario.ambient_c(0.0) + 15.0, False
    window: list[float] = []
    for tick in range(int(scenario.seconds / TICK_S)):
        t = tick * TICK_S
        slow = scenario.slowdown(t) * (2.0 if is_throttled else 1.0)
        latencies, busy, dropped = _frames(random, drive.level, slow)
        temperature_c += (scenario.ambient_c(t) + HEAT_C * busy - temperature_c) * TICK_S / TAU_S
        is_throttled = temperature_c > (THROTTLE_C - 5.0 if is_throttled else THROTTLE_C)
        window += latencies
        if (tick + 1) % round(WINDOW_S / TICK_S) == 0:
            drive.course.windows_met.append(bool(np.percentile(window, 95) <= (law.latency_budget_ms or math.inf)))
            window.clear()
        p95_ms = float(np.percentile(latencies, 95)) if latencies else None
        drive.step(
            Signals(t + TICK_S, p95_ms, OVERHEAD_MS * slow, busy, dropped, round(temperature_c, 1), is_throttled)
        )
    return drive.course


def _frames(random: np.random.Generator, level: Level, slow: float) -> tuple[list[float], float, float]:
    """(latencies in ms, busy share, dropped share) of one tick."""
    latencies, free_at_ms, dropped, asked = [], 0.0, 0, 0
    for frame in range(0, round(FPS * TICK_S), level.stride):
        at_ms = frame * 1000 / FPS
        asked += 1
        if at_ms < free_at_ms:
            dropped += 1
            continue
        took_ms = (OVERHEAD_MS + level.program.latency_ms) * slow * random.lognormal(0.0, 0.06)
        latencies.append(took_ms)
        free_at_ms = at_ms + took_ms
    return latencies, min(1.0, sum(latencies) / (TICK_S * 1000)), dropped / asked
