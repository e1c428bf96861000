"""The supervisor process: keeps a worker running, and reports. It imports no numpy and never touches a frame.

What to do after a fault is decided in `supervision`, what is told of a run in `reporting`; here are the processes and
the clock around them.
"""

from __future__ import annotations

import contextlib
import selectors
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgeloop.errors import (
    EXIT_DEVICE,
    EXIT_REFUSED,
    EXIT_USAGE,
    DataError,
    DeviceError,
    EdgeloopError,
    GoalNotMetError,
    RefusedError,
    UsageError,
)
from edgeloop_agent.config import AgentConfig
from edgeloop_agent.launcher import WorkerProcess
from edgeloop_agent.reporting import Outlet, Reporting
from edgeloop_agent.stop_signals import StopSignals
from edgeloop_agent.supervision import (
    Blame,
    Fault,
    GiveUp,
    Standing,
    after_fault,
    describe_exit,
    overdue,
    try_again,
)
from edgeloop_agent.tally import RunsOn, Tally

_WORKER_EXIT_S = 2.0  # from the end of its socket to the end of its process
_CHECK_EVERY_S = 1.0
_ERRORS: Mapping[int, type[EdgeloopError]] = {
    EXIT_USAGE: UsageError,
    EXIT_DEVICE: DeviceError,
    EXIT_REFUSED: RefusedError,
}


@dataclass(frozen=True)
class End:
    """How a run ended: reason "end" (of the source), "count", "stop" (a signal) or "failed", with the error."""

    reason: str
    error: EdgeloopError | None = None


class Supervisor:
    """One run of the agent. `tell` gets lines for people."""

    def __init__(
        self,
        config: AgentConfig,
        *,
        bundle: str,
        delegates: tuple[str, ...],
        tally: Tally,
        outlet: Outlet,
        tell: Callable[[str], None],
    ) -> None:
        """bundle: folder of the staged bundle; delegates: the fallback order."""
        self._config = config
        self._policy = config.policy
        self._bundle = bundle
        self._tally = tally
        tally.runs_on = RunsOn(asked=delegates[0])
        self._reporting = Reporting(tally, outlet, tell, threads=config.threads, interval_s=config.report_interval)
        self._standing = Standing.start(delegates)
        self._worker: WorkerProcess | None = None
        self._said_fault: dict[str, Any] | None = None
        self._hung: Fault | None = None
        self._done: str | None = None
        self._going_back = False
        self._first_bad_frame = ""
        self._stop_signals = StopSignals()
        self._stop_deadline_s: float | None = None
        self._launch_at_s = time.monotonic()
        self._selector = selectors.DefaultSelector()

    def run(self) -> End:
        """Until the source ends, `count` is reached, a signal asks for a stop, or nothing is left to try."""
        with self._stop_signals.wake_up(self._selector):
            try:
                end: End | None = None
                while end is None:
                    end = self._step()
            finally:
                if self._worker is not None:
                    self._worker.close()
                self._selector.close()
        if end.reason in ("end", "count") and (nothing := self._misfit() or self._nothing_done()) is not None:
            end = End("failed", nothing)
        if end.error is not None:
            self._reporting.happened("failed", end.error.message)
        self._reporting.report(self._worker)
        return end

    def _misfit(self) -> DataError | None:
        """The source is over and not one of its frames could be used: nothing was done, which is no success."""
        totals = self._tally.totals
        if totals["inferences"] or not totals["errors"] or totals["errors"] != totals["frames"]:
            return None
        frames = totals["frames"]
        what = "the only frame does not fit" if frames == 1 else f"none of the {frames} frames fits"
        return DataError(
            f"{what} the model: {self._first_bad_frame}",
            hint="the source must give what the contract says: edgeloop bundle inspect BUNDLE shows it",
        )

    def _nothing_done(self) -> GoalNotMetError | None:
        """Frames were taken and none came to a result: workers died with them."""
        totals = self._tally.totals
        if totals["inferences"] or not totals["frames"]:
            return None
        return GoalNotMetError(
            f"no inference came out of {totals['frames']} frames: every worker died or failed before one",
            hint="the lines above say what each worker died of",
        )

    def _step(self) -> End | None:
        now = time.monotonic()
        if self._worker is None:
            if self._stop_signals.count:
                return End("stop")
            if self._remaining == 0:
                return End("count")
            if now >= self._launch_at_s:
                return self._launch()
        if self._reporting.due_in_s(now) <= 0:
            self._reporting.report(self._worker)
        for key, _ in self._selector.select(self._patience_s(time.monotonic())):
            end: End | None = key.data()
            if end is not None:
                return end
        # After the messages: when this process was suspended itself, they are here and the worker is not silent.
        self._watch()
        return None

    # -- the worker's life

    def _launch(self) -> End | None:
        config = self._config
        start = {
            "bundle": self._bundle,
            "variant": config.variant,
            "delegate": self._standing.delegate,
            "threads": config.threads,
            "source": config.source,
            "sinks": list(config.sinks),
            "skip": self._tally.frames,
            "count": self._remaining,
            "loop": config.loop,
            "rate": config.rate,
            "activation": None if config.activation is None else config.activation.to_dict(),
        }
        try:
            self._worker = worker = WorkerProcess(start)
        except DeviceError as error:
            return End("failed", error)
        self._tally.worker_started()
        self._said_fault = self._hung = self._done = None
        self._going_back = False
        self._selector.register(worker.channel.socket, selectors.EVENT_READ, self._on_message)
        self._selector.register(worker.stderr_fd, selectors.EVENT_READ, self._on_stderr)
        return None

    def _watch(self) -> None:
        worker, now = self._worker, time.monotonic()
        if worker is None:
            return
        if self._stop_signals.count:
            if self._stop_deadline_s is None:
                self._stop_deadline_s = now + self._config.stop_timeout
                worker.terminate()
            elif now >= self._stop_deadline_s or self._stop_signals.count > 1:
                worker.kill()
            return
        if worker.ready_s is not None and not self._going_back and try_again(self._standing, self._policy, now):
            self._going_back = True
            worker.terminate()  # it ends with its frame done
        fault = overdue(
            self._policy,
            ready=worker.ready_s is not None,
            since_start_s=now - worker.started_s,
            since_message_s=now - worker.last_message_s,
            busy_s=worker.busy_s,
        )
        if fault is not None and self._hung is None:
            self._hung = fault
            worker.kill()

    def _on_stderr(self) -> None:
        if self._worker is not None and not self._worker.read_stderr():
            self._selector.unregister(self._worker.stderr_fd)

    def _on_message(self) -> End | None:
        worker = self._worker
        if worker is None:
            return None
        try:
            messages = worker.channel.receive()
            for message in messages or ():
                worker.last_message_s = time.monotonic()
                self._handle(worker, message)
        except (DeviceError, DataError, KeyError, TypeError, ValueError) as error:
            self._hung = Fault(Blame.RUN, f"worker spoke nonsense: {error}")
            worker.kill()
            messages = None
        return self._ended(worker) if messages is None else None

    def _handle(self, worker: WorkerProcess, message: Mapping[str, Any]) -> None:
        kind = message["kind"]
        if kind == "stats":
            self._reporting.measured(message)
        elif kind == "ready":
            worker.ready_s = time.monotonic()
            self._reporting.ready(message)
        elif kind == "event":
            if message["event"] == "bad_input" and not self._first_bad_frame:
                self._first_bad_frame = str(message["detail"])
            if message["event"] == "variant_switch":
                self._reporting.switched(message, worker)
            self._reporting.happened(message["event"], message["detail"])
        elif kind == "fault":
            self._said_fault = dict(message)
        elif kind == "done":
            self._done = str(message["reason"])

    def _ended(self, worker: WorkerProcess) -> End | None:
        """The worker closed its socket: take its last words and counts, then decide."""
        code = worker.wait(_WORKER_EXIT_S)
        if code is None:
            worker.kill()
            code = worker.wait(_WORKER_EXIT_S)
        while worker.read_stderr() and worker.poll() is None:
            pass
        counts = worker.last_counts
        self._tally.worker_ended(counts, len(self._config.sinks))
        if unwritten := counts.unwritten(len(self._config.sinks)):
            self._reporting.happened("results_lost", f"{unwritten} result lines were lost with the worker")
        if counts.inferred:
            self._standing = self._standing.with_success()
        ran_s = 0.0 if worker.ready_s is None else time.monotonic() - worker.ready_s
        self._selector.unregister(worker.channel.socket)
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.stderr_fd)
        said, last_words = self._said_fault, worker.last_words
        worker.close()
        self._worker = None
        if self._done == "stop" and self._going_back and not self._stop_signals.count:
            self._go_back()
            return None
        if self._done is not None:
            self._reporting.until(worker.last_message_s)
            return End(self._done)
        if self._stop_signals.count:
            return End("stop")
        if said is not None and said["blame"] == "fatal":
            kind = _ERRORS.get(said["exit_code"], EdgeloopError)
            return End("failed", kind(str(said["message"]), hint=said["hint"]))
        return self._recover(self._hung or _fault_from(said) or describe_exit(code or 0, last_words), ran_s)

    def _recover(self, fault: Fault, ran_s: float) -> End | None:
        fault = Fault(fault.blame, fault.detail, ran_s)
        if self._said_fault is not None and self._said_fault["blame"] == "source":
            self._reporting.happened("source_lost", fault.detail)
        self._standing, decision = after_fault(self._standing, self._policy, fault, time.monotonic())
        if isinstance(decision, GiveUp):
            return End("failed", DeviceError(decision.detail, hint="edgeloop-agent doctor checks the delegates"))
        if decision.quarantined:
            self._reporting.happened("quarantine", f"{decision.quarantined} is not tried for {decision.again_in_s:g} s")
        if fault.blame is not Blame.START or decision.kind != "fallback":  # a delegate that is not there is no failure
            self._tally.count("worker_restarts")
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

    # -- waiting

    @property
    def _remaining(self) -> int | None:
        return None if self._config.count is None else max(0, self._config.count - self._tally.frames)

    def _patience_s(self, now: float) -> float:
        until = [_CHECK_EVERY_S, self._reporting.due_in_s(now)]
        if self._worker is None:
            until.append(self._launch_at_s - now)
        if self._stop_deadline_s is not None:
            until.append(self._stop_deadline_s - now)
        return max(0.0, min(until))


def _fault_from(said: Mapping[str, Any] | None) -> Fault | None:
    """A worker's own account of its end."""
    if said is None:
        return None
    blame = {"start": Blame.START, "run": Blame.RUN, "source": Blame.OUTSIDE}.get(said["blame"], Blame.OTHER)
    return Fault(blame, str(said["message"]))
