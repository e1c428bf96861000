"""Responsive activation: how much work a moment deserves and the board can bear. Pure: no clock, no I/O.

    a(t) = alpha(t) * f(x(t))        alpha(t) = 1 / (1 + exp(-lambda * (t - t0)))

t is the headroom, ln(1 / load): 0 where full activity (the best program on every frame) would just meet its limit,
below 0 where it would miss it. So alpha, the share of activity allowed, falls when the load rises. f is what the input
deserves, 0..1. A level that costs the share s of full activity has its place on the same curve: it needs the activation
alpha(ln s), so at f = 1 a level is affordable exactly where its own load is at most 1, whatever lambda and t0 are; they
say how much f weighs. Three loads are kept apart: latency (skipping frames does not help), work and heat (it does).

A level is kept while it is affordable; another is entered only with room to spare, and never before `dwell_s`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeloop_agent.activation.levels import Law, Level

THERMAL_SPAN_C = 20.0
"""So far below its limit the temperature presses not at all; at the limit the load is 1."""
_FULL = 0.9  # of a limit that is used: measured percentiles of few frames are noisy
_SEVERE = 1.3  # a load from which one measurement is enough
_THROTTLED_LOAD = 1.25
_LOOKAHEAD_S = 5.0
_SWITCH_TIME_SHARE = 0.05  # switching never takes more of the time
_PROBATION_DWELLS = 20.0  # a better level that was kept for so long was no mistake
_LONGEST_HOLD_DWELLS = 64.0


@dataclass(frozen=True)
class Signals:
    """What was measured since the last step (since the last switch, if that is later).

    p95_ms: frame to result, None where nothing was inferred; overhead_ms: the part of it outside the model. busy: work
    per frame as a share of the time from one frame to the next, where somebody else sets the pace. dropped: share of
    the frames that came too fast.
    activity: f.
    """

    time_s: float
    p95_ms: float | None = None
    overhead_ms: float = 0.0
    busy: float | None = None
    dropped: float = 0.0
    temperature_c: float | None = None
    throttled: bool = False
    activity: float = 1.0


@dataclass(frozen=True)
class State:
    """Where the governor stands. `level`: index in the ladder, 0 is the most active. hold_s: so long must a better
    level have been affordable before it is entered; it doubles with every relapse."""

    level: int = 0
    switched_s: float = -math.inf
    rose_s: float = -math.inf
    calm_since_s: float | None = None
    hold_s: float = 0.0
    strained: int = 0
    loads: tuple[float, ...] = (0.0, 0.0, 0.0)  # of full activity: latency, work, heat
    smooth_c: float | None = None  # the temperature as it was some seconds ago
    time_s: float = 0.0
    activation: float = 1.0


@dataclass(frozen=True)
class Decision:
    """reason: why the level changed, "" where it did not. preload: a program that should be made ready. missed: the
    limit that is not kept where no level would keep it."""

    reason: str = ""
    preload: str = ""
    missed: str = ""


def step(
    levels: Sequence[Level],
    law: Law,
    state: State,
    signals: Signals,
    *,
    ready: frozenset[str] | None = None,
    switch_s: float = 0.0,
) -> tuple[State, Decision]:
    """One step. ready: names of the programs that can start at once (None: all). switch_s: what a switch takes."""
    now = signals.time_s
    shares = [_shares(level, levels[0], signals.overhead_ms) for level in levels]
    here = shares[state.level]
    pressures = _pressures(law, state, signals)
    # What full activity would make of them; what was not measured now is as it was.
    loads = tuple(
        old if pressure is None else pressure / share
        for old, pressure, share in zip(state.loads, pressures, here, strict=True)
    )
    allowed = [_alpha(law, load) * signals.activity for load in loads]

    def affordable(index: int, margin: float) -> bool:
        return all(a >= _alpha(law, 1 / (s * (1 + margin))) for a, s in zip(allowed, shares[index], strict=True))

    def load_at(index: int) -> float:
        return max(load * share for load, share in zip(loads, shares[index], strict=True))

    over = not affordable(state.level, 0.0)
    better = [i for i in range(state.level) if affordable(i, law.margin)]
    calm = better and not over
    why = _reason(law, signals, pressures)
    state = replace(
        state,
        loads=loads,
        smooth_c=_smoothed(state, signals),
        time_s=now,
        activation=min(allowed),
        strained=state.strained + 1 if over else 0,
        calm_since_s=None if not calm else now if state.calm_since_s is None else state.calm_since_s,
        hold_s=state.hold_s or law.dwell_s,
    )
    if over and (state.strained > 1 or load_at(state.level) >= _SEVERE):
        fitting = [i for i in range(len(levels)) if affordable(i, law.margin)]
        # Where nothing fits: what presses least.
        to = fitting[0] if fitting else min(range(len(levels)), key=load_at)
    elif state.calm_since_s is not None and now - state.calm_since_s >= state.hold_s:
        fitting, why = better, "room again"
        to = better[-1]  # one step at a time
    else:
        return state, Decision()
    preload = ""
    if to != state.level and ready is not None and levels[to].program.name not in ready:
        preload = levels[to].program.name
        to = next((i for i in fitting if levels[i].program.name in ready), state.level)  # until it is ready
    if to == state.level and not fitting and state.strained > 1:
        return state, Decision(missed=_missed(law, signals))
    dwell_s = max(law.dwell_s, switch_s / _SWITCH_TIME_SHARE)
    if to == state.level or now - state.switched_s < dwell_s:
        return state, Decision(preload=preload)
    return _moved(law, state, to, now), Decision(f"{levels[state.level]} -> {levels[to]}: {why}", preload)


def input_activity(law: Law, *, motion: float, novelty: float, confidence: float | None) -> float:
    """f: the most interesting of the three decides. motion, novelty: 0..1; confidence of the last result, None where
    the model has none. `law.quiet`..1."""
    interest = max(motion, novelty, 0.0 if confidence is None else 1.0 - confidence)
    return law.quiet + (1.0 - law.quiet) * min(1.0, max(0.0, interest))


def _alpha(law: Law, load: float) -> float:
    """The share of activity allowed at a load of full activity."""
    if load <= 0:
        return 1.0
    exponent = law.steepness * (math.log(load) + law.midpoint)  # -lambda * (t - t0) with t = -ln(load)
    return 1.0 / (1.0 + math.exp(min(exponent, 700.0)))


def _shares(level: Level, full: Level, overhead_ms: float) -> tuple[float, float, float]:
    """(latency, work, heat) of a level as shares of full activity's, above 0. A full model that mostly stops early may
    take less work on average than a lighter one that never does."""
    latency = (overhead_ms + level.program.latency_ms) / max(overhead_ms + full.program.latency_ms, 1e-9)
    work = (overhead_ms + level.program.work_ms) / max(overhead_ms + full.program.work_ms, 1e-9) / level.stride
    work = max(work, 1e-6)
    return max(latency, 1e-6), work, math.sqrt(work)  # a board is warm without work, too


def _pressures(law: Law, state: State, signals: Signals) -> tuple[float | None, float, float]:
    """(latency, work, heat) load of the level in use: 1 at the limit. None: no frame was measured."""
    latency: float | None = 0.0
    if law.latency_budget_ms is not None:
        latency = None if signals.p95_ms is None else signals.p95_ms / (law.latency_budget_ms * _FULL)
    work = 0.0
    if signals.busy is not None:
        work = _offered(signals) / _FULL
    if signals.throttled:
        work = max(work, _THROTTLED_LOAD)
    return latency, work, _heat(law, state, signals)


def _offered(signals: Signals) -> float:
    """Work that came, as a share of the time there was: what was done and what was dropped for want of time."""
    return (signals.busy or 0.0) / max(0.05, 1.0 - signals.dropped)


def _heat(law: Law, state: State, signals: Signals) -> float:
    """Load by temperature, as it will be in a few seconds."""
    now_c = signals.temperature_c
    if law.temperature_limit_c is None or now_c is None:
        return 0.0
    # The smoothed value lags by what the temperature rises in so many seconds.
    ahead_c = now_c if state.smooth_c is None else now_c + (now_c - state.smooth_c)
    return max(0.0, 1.0 + (ahead_c - law.temperature_limit_c) / THERMAL_SPAN_C)


def _smoothed(state: State, signals: Signals) -> float | None:
    """An exponential mean over the look-ahead; sensors step by half a degree or more."""
    if state.smooth_c is None or signals.temperature_c is None:
        return signals.temperature_c
    weight = min(1.0, max(0.0, signals.time_s - state.time_s) / _LOOKAHEAD_S)
    return state.smooth_c + weight * (signals.temperature_c - state.smooth_c)


def _moved(law: Law, state: State, to: int, now: float) -> State:
    """A better level that could not be kept for long is tried again only after twice the calm."""
    if to < state.level:
        return replace(state, level=to, switched_s=now, rose_s=now, calm_since_s=None)
    relapsed = now - state.rose_s <= max(_PROBATION_DWELLS * law.dwell_s, state.hold_s)
    hold_s = (
        min(2 * state.hold_s, _LONGEST_HOLD_DWELLS * law.dwell_s) if relapsed else max(law.dwell_s, state.hold_s / 2)
    )
    return replace(state, level=to, switched_s=now, hold_s=hold_s, strained=0, calm_since_s=None)


def _missed(law: Law, signals: Signals) -> str:
    said = []
    if law.latency_budget_ms is not None and (signals.p95_ms or 0.0) > law.latency_budget_ms:
        said.append(f"p95 {signals.p95_ms:.3g} ms of {law.latency_budget_ms:g} ms")
    if law.temperature_limit_c is not None and (signals.temperature_c or 0.0) > law.temperature_limit_c:
        said.append(f"{signals.temperature_c:.0f} C of {law.temperature_limit_c:g} C")
    return ", ".join(said)


def _reason(law: Law, signals: Signals, pressures: tuple[float | None, float, float]) -> str:
    said = []
    if signals.p95_ms is not None and (pressures[0] or 0.0) > 1:
        said.append(f"p95 {signals.p95_ms:.3g} ms of {law.latency_budget_ms:g} ms")
    if signals.throttled:
        said.append("throttled")
    if signals.temperature_c is not None and pressures[2] > 1:
        said.append(f"{signals.temperature_c:.0f} C of {law.temperature_limit_c:g} C")
    if signals.busy is not None and _offered(signals) > _FULL:
        lost = f", {signals.dropped:.0%} of the frames dropped" if signals.dropped else ""
        said.append(f"busy {signals.busy:.0%}{lost}")
    return ", ".join(said) or "quiet input"
