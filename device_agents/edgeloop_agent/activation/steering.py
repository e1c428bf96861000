"""Gate, governor, cascade and warm variants together: what the frame loop asks before each frame and tells after it.

Decisions are `governor`'s and `gate`'s; here are the models, the measurements and the clock's readings around them.
For the loop's thread, except `statistics`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.postprocess.confidence import confidence
from edgeloop_agent.activation import governor
from edgeloop_agent.activation.cache import WarmModels
from edgeloop_agent.activation.cascade import Cascade
from edgeloop_agent.activation.governor import Decision, Signals, State
from edgeloop_agent.activation.levels import Law, Level, Program, ladder, shortcomings
from edgeloop_agent.activation.load_trace import LoadRecorder
from edgeloop_agent.activation.second_step import Cost, SecondStep, in_two_steps
from edgeloop_agent.activation.settings import ActivationSettings
from edgeloop_agent.worker.board_watch import Board

if TYPE_CHECKING:
    from edgeloop.postprocess import Result
    from edgeloop.runtime import RanOn
    from edgeloop_agent.sources.live import LiveSource
    from edgeloop_agent.worker.pipeline import Pipeline

TICK_NS = 500_000_000
_ENOUGH_FRAMES = 5  # for a percentile


class Skipped:
    """Answer to `admit`: nobody looks at this frame."""


SKIPPED = Skipped()


@dataclass(frozen=True)
class Moved:
    """A change of level, or that none keeps a limit. `kind` is the event's; `program` is what runs now, on `ran_on`."""

    kind: str
    detail: str
    program: str
    ran_on: RanOn


class Activation:
    """`pipeline` is what the loop runs; for each frame `admit`, and if that says so and it was inferred, `inferred`."""

    def __init__(
        self,
        settings: ActivationSettings,
        models: WarmModels,
        programs: Sequence[Program],
        parts: Mapping[str, tuple[str, ...]],
        costs: Mapping[str, Cost],
        *,
        period_s: float = 0.0,
        board: Board | None = None,
    ) -> None:
        """programs: the first is meant for the board; parts: the variants of each (two: a cascade, the light one
        first); costs: of each variant, kept up to date by whoever opens one; period_s: from one frame to the next, 0
        where they come as fast as they are taken. Raises ConfigError.
        """
        self._settings = settings
        self._models = models
        self._parts = parts
        self._costs = costs
        self._period_s = period_s
        self._take_turns = len(programs) > 1
        self._board = board or (lambda: (None, False))
        self._law = settings.law or Law()
        self._levels = ladder(programs, self._law) if settings.law else (Level(programs[0]),)
        self._state = State()
        self.shortcomings = shortcomings(self._levels, self._law, has_sensor=self._board()[0] is not None)
        """Lines: what the governor was asked for and cannot do."""
        self._told_missed = False
        self._programs = tuple(programs)
        self._recorder = LoadRecorder(Path(settings.record), settings.law) if settings.record else None
        self._gate = None
        if settings.gate is not None:
            from edgeloop_agent.activation.gate import Gate  # it alone needs OpenCV

            self._gate = Gate(settings.gate)
        self._second: dict[str, SecondStep] = {}
        """By program, of those that answer in two steps."""
        self._escalated = 0
        self._stride, self._until_next = 1, 0
        self._loosened = 1.0
        self._confidence: float | None = None
        self._totals_ns: list[int] = []
        self._invokes_ns = self._busy_ns = self._frames = 0
        self._tick_ns = time.perf_counter_ns()
        self._switch_s = 0.0
        self._live: LiveSource | None = None
        self._dropped = 0
        self._sent: dict[str, int] = {}
        self.ran: list[str] = []
        """The variant of every inference, until somebody takes them off."""
        self._now = self._pipeline_of(self._levels[0].program)

    @property
    def pipeline(self) -> Pipeline:
        """The steps of whatever runs now. `session` is that of the first level."""
        return replace(
            self._now,
            prepare=lambda frame: self._now.prepare(frame),
            set_input=lambda array: self._now.set_input(array),
            invoke=lambda: self._now.invoke(),
            collect=lambda: self._now.collect(),
            decode=self._decode,
            close=self._models.close,
            ran=self.ran,
        )

    @property
    def _is_measured(self) -> bool:
        return self._settings.law is not None or self._recorder is not None

    @property
    def level(self) -> Level:
        return self._levels[self._state.level]

    @property
    def audit_differences(self) -> int:
        """Audits of the gate that found another result, up to now."""
        return 0 if self._gate is None else self._gate.differences

    def follow(self, live: LiveSource | None) -> None:
        """The source sets the pace: its drops and the time without work are load, too."""
        self._live = live

    def admit(self, frame: Any, now_ns: int) -> Result | Skipped | None:
        """None: infer on it. SKIPPED: not its turn. Else the result that a frame like it had.

        Raises whatever a frame provokes that is no picture and no array.
        """
        if self._stride > 1:
            if self._until_next:
                self._until_next -= 1
                return SKIPPED
            self._until_next = self._stride - 1
        return None if self._gate is None else self._gate.reuse(frame, now_ns, self._loosened)

    def inferred(self, result: Result, times: tuple[int, int, int, int, int]) -> None:
        """times: when work on the frame began, and when it was captured, prepared, invoked and decoded, in ns."""
        self._totals_ns.append(times[4] - times[0])
        self._invokes_ns += times[3] - times[2]
        if result.variant:
            self.ran.append(result.variant)
        if self._now.ran:  # shape buckets say it in the result, too
            self._now.ran.clear()
        if self._gate is not None:
            self._gate.inferred(result, times[4])
        self._confidence = confidence(result, of_nothing=None)  # an empty scene is no reason to look more often

    def _decode(self, raw: Any) -> Result:
        result = self._now.decode(raw)
        if self._take_turns and not result.variant:
            result = replace(result, variant=self.level.program.name)
        return result

    def worked(self, since_ns: int, now_ns: int) -> Moved | None:
        """After every frame: it was worked on from `since_ns`. Twice a second this is a step of the governor."""
        self._busy_ns += now_ns - since_ns
        self._frames += 1
        return self._step(now_ns) if now_ns - self._tick_ns >= TICK_NS and self._is_measured else None

    def statistics(self) -> dict[str, Any]:
        """{"counters": since the last call, "gauges": now}. May be called from another thread."""
        totals = {"cache_hits_l2": self._models.hits, "cache_misses_l2": self._models.misses}
        gauges: dict[str, float] = {"l2_models": float(len(self._models.ready))}
        gate = self._gate
        if gate is not None:
            totals |= {"cache_misses_l1": gate.misses, "audits": gate.audits, "audit_differences": gate.differences}
            gauges |= {"gate_threshold": round(gate.threshold, 3), "gate_noise": round(gate.noise, 3)}
        if self._settings.cascade is not None:
            totals["escalations"] = self._escalated
        if self._settings.law is not None:
            state = self._state
            gauges["activation"] = round(state.activation, 4)
            gauges["stride"], gauges["level"] = float(self._stride), float(state.level)
            gauges["switch_ms"] = round(self._switch_s * 1e3, 3)
        sent, self._sent = self._sent, totals
        return {"counters": {name: n - sent.get(name, 0) for name, n in totals.items()}, "gauges": gauges}

    def _step(self, now_ns: int) -> Moved | None:
        self._costs_are_known()
        signals = self._measured(now_ns)
        move = None
        if self._recorder is not None:
            ended = self._recorder.record(signals, self.level, self._programs)
            move = Moved("load_trace", ended, self.level.program.name, self._now.session.ran_on) if ended else None
        before, decision = self.level, Decision()
        if self._settings.law is not None:
            decision = self._govern(signals)
        if signals.p95_ms is not None or self.level != before:
            self._totals_ns.clear()
            self._invokes_ns = 0
        self._busy_ns, self._frames, self._tick_ns = 0, 0, now_ns
        if decision.reason:
            return self._enter(before, decision.reason)
        if not decision.missed or self._told_missed:
            return move
        self._told_missed = True  # once a level
        detail = f"{decision.missed} with {before}, and nothing it may switch to keeps it"
        return Moved("limit_missed", detail, before.program.name, self._now.session.ran_on)

    def _measured(self, now_ns: int) -> Signals:
        count = len(self._totals_ns)
        p95_ms, overhead_ms = None, 0.0
        if count >= _ENOUGH_FRAMES:
            ordered = sorted(self._totals_ns)
            p95_ms = ordered[min(count - 1, int(0.95 * count))] * 1e-6
            overhead_ms = (sum(ordered) - self._invokes_ns) / count * 1e-6
        temperature_c, is_throttled = self._board()
        busy, dropped = self._pace(now_ns)
        return Signals(
            time_s=now_ns * 1e-9,
            p95_ms=p95_ms,
            overhead_ms=overhead_ms,
            busy=busy,
            dropped=dropped,
            temperature_c=temperature_c,
            throttled=is_throttled,
            activity=self._activity(),
        )

    def _pace(self, now_ns: int) -> tuple[float | None, float]:
        """(busy, dropped) of Signals. None where frames come as fast as they are taken."""
        if self._live is not None:
            before, self._dropped = self._dropped, self._live.dropped
            lost = self._dropped - before
            return min(1.0, self._busy_ns / max(1, now_ns - self._tick_ns)), lost / max(1, lost + self._frames)
        return (self._busy_ns * 1e-9 / (self._frames * self._period_s) if self._period_s else None), 0.0

    def _govern(self, signals: Signals) -> Decision:
        ready = self._models.ready
        names = {program for program, parts in self._parts.items() if ready.issuperset(parts)}
        self._state, decision = governor.step(
            self._levels, self._law, self._state, signals, ready=frozenset(names), switch_s=self._switch_s
        )
        if decision.preload:
            self._models.preload(self._parts[decision.preload])
        self._loosened = 2.0 - self._state.activation  # the less may be done, the more must have changed
        return decision

    def _enter(self, before: Level, reason: str) -> Moved:
        self._told_missed = False
        now = self.level
        self._stride, self._until_next = now.stride, 0
        if now.program.name == before.program.name:
            return Moved("stride_switch", reason, now.program.name, self._now.session.ran_on)
        began = time.perf_counter()
        self._now = self._pipeline_of(now.program)
        self._switch_s = time.perf_counter() - began
        if self._gate is not None:
            self._gate.forget()
        return Moved("variant_switch", reason, now.program.name, self._now.session.ran_on)

    def _pipeline_of(self, program: Program) -> Pipeline:
        parts = self._parts[program.name]
        pipelines = self._models.use(parts)
        pipeline = pipelines[-1]
        if len(parts) > 1 and self._settings.cascade is not None:
            threshold = self._settings.cascade.threshold
            pipeline = Cascade(pipelines[0], pipeline, (parts[0], parts[1]), threshold, self._escalate).pipeline
        if pipeline.second is not None:
            self._second[program.name] = pipeline.second
        return pipeline

    def _escalate(self) -> None:
        self._escalated += 1

    def _costs_are_known(self) -> None:
        """Levels with what their programs cost as far as it is known now: a variant that was opened later, two steps by
        the share of frames that need both."""
        self._programs = tuple([self._costed(program) for program in self._programs])
        known = {program.name: program for program in self._programs}
        self._levels = tuple([replace(level, program=known[level.program.name]) for level in self._levels])

    def _costed(self, program: Program) -> Program:
        costs = [self._costs[part] for part in self._parts[program.name]]
        cost = costs[0] if len(costs) == 1 else Cost(costs[0].whole_ms, costs[1].whole_ms)
        second = self._second.get(program.name)
        known = in_two_steps(program, cost, 1.0 if second is None else second.share)
        return program if known == program else known

    def _activity(self) -> float:
        if self._gate is None:
            return 1.0
        return governor.input_activity(
            self._law, motion=self._gate.motion, novelty=self._gate.novelty, confidence=self._confidence
        )
