"""One model under supervision: its worker process from launch to end, and the next one. No numpy."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgeloop import probes
from edgeloop.errors import DeviceError
from edgeloop.runtime.libedgetpu import crash_hint
from edgeloop_agent.config import AgentConfig
from edgeloop_agent.reports.board_health import BoardHealth
from edgeloop_agent.reports.reporting import Outlet, Reporting
from edgeloop_agent.reports.tally import RunsOn, Tally
from edgeloop_agent.service.agent_state import model_state
from edgeloop_agent.supervisor.decisions import (
    Blame,
    Fault,
    GiveUp,
    Standing,
    after_fault,
    try_again,
)
from edgeloop_agent.supervisor.endings import End, failed, judged
from edgeloop_agent.supervisor.fallback_clock import FALLBACK_GAUGE, FallbackClock
from edgeloop_agent.supervisor.launcher import start_message
from edgeloop_agent.supervisor.life import CHECK_EVERY_S, WorkerLife
from edgeloop_agent.supervisor.stop_signals import StopSignals
from edgeloop_agent.worker.frame_ring import FrameRing

_WORKERS_SHARE = 0.6  # of the time that a stop has; the rest is for the last report
_DOCTOR_HINT = "edgeloop-agent doctor checks the delegates"


@dataclass(frozen=True)
class Assignment:
    """What to run. bundle: folder of the staged bundle; delegates: the fallback order; tally: where it is added up;
    gives, takes: see `launcher.start_message`.
    """

    config: AgentConfig
    bundle: str
    delegates: tuple[str, ...]
    tally: Tally
    gives: FrameRing | None = None
    takes: FrameRing | None = None


class SupervisedModel:
    """`step`, then what the selector's keys hold, then `watch`, until there is an `end`."""

    def __init__(
        self,
        assignment: Assignment,
        outlet: Outlet,
        tell: Callable[[str], None],
        selector: selectors.BaseSelector,
        stops: StopSignals,
        board: BoardHealth,
    ) -> None:
        """tell: gets lines for people; board: the agent's, of all models."""
        self.end: End | None = None
        self._config = config = assignment.config
        if config.model:
            tell = _named(config.model, tell)
        self._policy = config.policy
        self._assignment = assignment
        self._tally = assignment.tally
        self._tally.runs_on = RunsOn(asked=assignment.delegates[0])
        self._fallback = FallbackClock(assignment.delegates[0], config.fallback_alert)
        self._reporting = Reporting(
            self._tally, outlet, tell, self._fallback, board,
            threads=config.threads, interval_s=config.report_interval,
        )  # fmt: skip
        self._standing = Standing.start(assignment.delegates)
        self._life: WorkerLife | None = None
        self._first_bad_frame = ""
        self._selector = selector
        self._stops = stops
        self._stop_deadline_s: float | None = None
        self._launch_at_s = time.monotonic()
        self._is_paused = False

    def step(self) -> None:
        """Launch a worker if it is time for one; report if the period is over."""
        now = time.monotonic()
        if self._life is None:
            if self._stops.count:
                return self._finish(End("stop"))
            if self._remaining == 0:
                return self._finish(End("count"))
            if now >= self._launch_at_s and not self._is_paused:
                return self._launch()
        if self._reporting.due_in_s(now) <= 0:
            self._reporting.report(None if self._life is None else self._life.worker)
        return None

    def patience_s(self) -> float:
        """How long nothing needs to be looked at."""
        if self.end is not None:
            return 0.0
        now = time.monotonic()
        until = [CHECK_EVERY_S, self._reporting.due_in_s(now)]
        if self._life is not None:
            until.append(self._life.patience_s())
        elif not self._is_paused:
            until.append(self._launch_at_s - now)
        if self._stop_deadline_s is not None:
            until.append(self._stop_deadline_s - now)
        return max(0.0, min(until))

    def watch(self) -> None:
        """End a worker that hangs or takes too much memory, or that somebody wants to end."""
        life, now = self._life, time.monotonic()
        if life is None:
            return
        worker = life.worker
        if self._stops.count:
            if self._stop_deadline_s is None:
                self._stop_deadline_s = now + _WORKERS_SHARE * self._config.stop_timeout
                worker.terminate()
            elif now >= self._stop_deadline_s or self._stops.count > 1:
                worker.kill()
            return
        if life.is_ready:
            if happened := self._fallback.look(self._tally.runs_on, now):
                self._reporting.happened(*happened)
            if not life.is_leaving and try_again(self._standing, self._policy, now):
                life.leave()
        life.watch()

    def state(self) -> dict[str, Any]:
        """For `edgeloop-agent status`, as of now."""
        life, now = self._life, time.monotonic()
        worker = None if life is None else life.worker
        if worker is not None:
            self._tally.counted(worker.counts)
        phase = "ended" if self.end is not None else "waiting" if worker is None else "loading"
        if self.is_paused and self.end is None:
            phase = "paused"
        return model_state(
            self._tally,
            self._standing.delegates,
            model=self._config.model,
            phase="running" if life is not None and life.is_ready else phase,
            threads=self._config.threads,
            worker_pid=None if worker is None else worker.pid,
            worker_rss_bytes=None if worker is None else probes.rss_bytes(worker.pid),
            fallback_s=self._fallback.gauges(now).get(FALLBACK_GAUGE),
            next_try_s=max(0.0, self._launch_at_s - now) if phase == "waiting" else None,
        )

    # -- what commands ask of it

    @property
    def is_paused(self) -> bool:
        """Asked to pause, and no worker is there any more."""
        return self.end is not None or (self._is_paused and self._life is None)

    def pause(self) -> None:
        """End the worker with the frame in hand; none is started until `resume`."""
        self._is_paused = True
        if self._life is not None and not self._life.is_leaving:
            self._life.leave()

    def resume(self) -> None:
        self._is_paused, self._launch_at_s = False, time.monotonic()

    def report_now(self) -> None:
        """The period ends now."""
        if self.end is None:
            self._reporting.report(None if self._life is None else self._life.worker)

    def noted(self, kind: str, detail: str) -> None:
        """An event, for the next report."""
        self._reporting.happened(kind, detail)

    def counted(self, name: str) -> None:
        """One more, in the next report."""
        self._tally.count(name)

    def close(self) -> None:
        """End the worker, should there be one."""
        if self._life is not None:
            self._life.worker.close()
            self._life = None

    # -- a worker's life

    def _launch(self) -> None:
        skip, count = self._tally.taken, self._remaining
        given = self._assignment
        start = start_message(
            self._config, given.bundle, self._standing.delegate, skip=skip, count=count, gives=given.gives,
            takes=given.takes,
        )  # fmt: skip
        try:
            self._life = WorkerLife(start, self._policy, self._selector, self._heard, self._died)
        except DeviceError as error:
            return self._finish(End("failed", error))
        self._tally.worker_started()
        return None

    def _heard(self, message: Mapping[str, Any]) -> None:
        kind = message["kind"]
        if kind == "stats":
            self._reporting.measured(message)
        elif kind == "ready":
            self._reporting.ready(message)
        elif kind == "event":
            if message["event"] == "bad_input" and not self._first_bad_frame:
                self._first_bad_frame = str(message["detail"])
            if message["event"] == "variant_switch" and self._life is not None:
                self._reporting.switched(message, self._life.worker)
            self._reporting.happened(message["event"], message["detail"])

    def _died(self) -> None:
        """Take the worker's last counts, then decide."""
        assert self._life is not None
        death, self._life = self._life.bury(), None
        sinks = len(self._config.sinks)
        self._tally.worker_ended(death.counts, sinks)
        if unwritten := death.counts.unwritten(sinks):
            self._reporting.happened("results_lost", f"{unwritten} result lines were lost with the worker")
        if death.counts.inferred and death.fault.blame is not Blame.START:
            self._standing = self._standing.with_success()
        if self._is_paused and death.was_leaving and death.done in (None, "stop") and not self._stops.count:
            return  # the next one starts at `resume`
        if death.done == "stop" and death.was_leaving and not self._stops.count:
            self._go_back()
        elif death.done is not None:
            self._reporting.until(death.last_message_s)
            self._finish(End(death.done))
        elif self._stops.count:
            self._finish(End("stop"))
        elif death.said is not None and death.said["blame"] == "fatal":
            self._finish(failed(death.said))
        else:
            if death.said is not None and death.said["blame"] == "source":
                self._reporting.happened("source_lost", str(death.said["message"]))
            self._recover(death.fault)

    # -- what follows

    def _recover(self, fault: Fault) -> None:
        if fault.blame is Blame.RUN and (hint := crash_hint(self._standing.delegate)):
            fault = replace(fault, detail=f"{fault.detail}: {hint}")
        self._standing, decision = after_fault(self._standing, self._policy, fault, time.monotonic())
        if isinstance(decision, GiveUp):
            return self._finish(End("failed", DeviceError(decision.detail, hint=decision.hint or _DOCTOR_HINT)))
        if decision.quarantined:
            self._reporting.happened("quarantine", f"{decision.quarantined} is not tried for {decision.again_in_s:g} s")
        if fault.blame is not Blame.START or decision.kind != "fallback":  # a delegate that is not there is no failure
            self._tally.count("worker_restarts")
        if fault.blame in (Blame.RUN, Blame.OTHER):
            self._tally.faults.append(fault.detail)
        self._reporting.happened(decision.kind, decision.detail)
        if decision.kind == "fallback":
            self._reporting.before_delegate(self._standing.delegate)
        self._launch_at_s = time.monotonic() + decision.delay_s
        return None

    def _go_back(self) -> None:
        """To a delegate that was out, now that its time is over."""
        was, self._launch_at_s = self._standing.delegate, time.monotonic()
        self._standing = try_again(self._standing, self._policy, self._launch_at_s) or self._standing
        self._reporting.happened("retry", f"{was} -> {self._standing.delegate}: it was out long enough")
        self._reporting.before_delegate(self._standing.delegate)

    def _finish(self, end: End) -> None:
        if self._assignment.gives is not None:
            self._assignment.gives.end()
        self.end = judged(end, self._tally.totals, self._first_bad_frame)
        if self.end.error is not None:
            self._reporting.happened("failed", self.end.error.message)
        self._reporting.report(None)

    @property
    def _remaining(self) -> int | None:
        return None if self._config.count is None else max(0, self._config.count - self._tally.taken)


def _named(model: str, tell: Callable[[str], None]) -> Callable[[str], None]:
    return lambda text: tell(f"{model}: {text}")
