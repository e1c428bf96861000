"""A worker from launch to burial: what it says, how it is watched, what it died of. No numpy."""

from __future__ import annotations

import contextlib
import math
import selectors
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgeloop import probes
from edgeloop.errors import DataError, DeviceError
from edgeloop.runtime.delegates import parse_delegate
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import HEADLINE_STAGE
from edgeloop_agent.reports.tally import Counts
from edgeloop_agent.supervisor.decisions import Blame, Fault, Policy, describe_exit, invoke_limit_s, overdue, too_large
from edgeloop_agent.supervisor.launcher import WorkerProcess

CHECK_EVERY_S = 1.0
_CHECK_AT_MOST_EVERY_S = 0.02
_MEMORY_EVERY_S = 0.5
_WORKER_EXIT_S = 2.0  # from the end of its socket to the end of its process


@dataclass(frozen=True)
class Death:
    """How a life ended. done: the reason, where it had come to a clean end; said: its own account, a "fault" message;
    fault: what it died of else. last_message_s: when it last spoke, on the monotonic clock.
    """

    done: str | None
    said: Mapping[str, Any] | None
    fault: Fault
    counts: Counts
    was_leaving: bool
    last_message_s: float


class WorkerLife:
    """`heard` gets every message but the last words; `died` is called once, in the selector's turn."""

    def __init__(
        self,
        start: Mapping[str, Any],
        policy: Policy,
        selector: selectors.BaseSelector,
        heard: Callable[[Mapping[str, Any]], None],
        died: Callable[[], None],
    ) -> None:
        """Raises DeviceError where no worker can be started."""
        self.worker = WorkerProcess(start)
        self.is_leaving = False
        """Asked to end, because a delegate that was out is to be tried again."""
        self._policy = policy
        self._selector = selector
        self._heard, self._died = heard, died
        self._done: str | None = None
        self._said: Mapping[str, Any] | None = None
        self._killed_for: Fault | None = None
        self._oversize: Fault | None = None
        self._memory_read_s = time.monotonic()
        self._is_library = bool(parse_delegate(start["delegate"]).library)
        self._slowest_invoke_s = 0.0
        self._look_at_invoke_s = math.inf
        self._is_buried = False
        selector.register(self.worker.channel.socket, selectors.EVENT_READ, self._on_message)
        selector.register(self.worker.stderr_fd, selectors.EVENT_READ, self._on_stderr)

    @property
    def is_ready(self) -> bool:
        return self.worker.ready_s is not None

    def leave(self) -> None:
        """It ends with its frame done."""
        self.is_leaving = True
        self.worker.terminate()

    def patience_s(self) -> float:
        """How long it need not be watched."""
        left_s = [CHECK_EVERY_S]
        if busy_s := self.worker.busy_s:
            left_s.append(self._policy.frame_timeout_s - busy_s)
        if telling_s := self.worker.telling_s:
            left_s.append(self._policy.frame_timeout_s - telling_s)
        if invoking_s := self.worker.invoking_s:
            left_s.append(self._look_at_invoke_s - invoking_s)
        return max(_CHECK_AT_MOST_EVERY_S, min(left_s))

    def watch(self) -> None:
        """Kill it where it hangs or takes too much memory."""
        worker, now = self.worker, time.monotonic()
        fault = self._oversize or overdue(
            self._policy,
            ready=self.is_ready,
            since_start_s=now - worker.started_s,
            since_message_s=now - worker.last_message_s,
            busy_s=worker.busy_s,
            telling_s=worker.telling_s,
            invoking_s=worker.invoking_s,
            invoke_limit_s=self._invoke_limit_s(worker.invoking_s),
            memory_bytes=self._memory_bytes(now),
        )
        if fault is not None and self._killed_for is None:
            self._killed_for = fault
            worker.kill()

    def bury(self) -> Death:
        """After `died`: wait for its process, and free everything."""
        worker = self.worker
        code = worker.wait(_WORKER_EXIT_S)
        if code is None:
            worker.kill()
            code = worker.wait(_WORKER_EXIT_S)
        while worker.read_stderr() and worker.poll() is None:
            pass
        fault = (
            self._killed_for
            or _fault_from(self._said)
            or describe_exit(code or 0, worker.last_words, was_telling=worker.telling_s > 0)
        )
        ran_s = 0.0 if worker.ready_s is None else time.monotonic() - worker.ready_s
        death = Death(
            self._done, self._said, replace(fault, ran_s=ran_s), worker.last_counts, self.is_leaving,
            worker.last_message_s,
        )  # fmt: skip
        self._is_buried = True
        self._selector.unregister(worker.channel.socket)
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.stderr_fd)
        worker.close()
        return death

    def _memory_bytes(self, now: float) -> int:
        """What it takes of the board's memory; 0 where nobody asks or it is not time to ask."""
        if self._policy.memory_limit_bytes is None or now - self._memory_read_s < _MEMORY_EVERY_S:
            return 0
        self._memory_read_s = now
        return self._memory_now()

    def _memory_now(self) -> int:
        return probes.pss_bytes(self.worker.pid) or probes.rss_bytes(self.worker.pid) or 0

    def _on_stderr(self) -> None:
        # It may be buried in the same turn of the selector: what its descriptor's number is now is another's.
        if not self._is_buried and not self.worker.read_stderr():
            self._selector.unregister(self.worker.stderr_fd)

    def _on_message(self) -> None:
        if self._is_buried:
            return
        worker = self.worker
        try:
            messages = worker.channel.receive()
            for message in messages or ():
                worker.last_message_s = time.monotonic()
                self._take(message)
        except (DeviceError, DataError, KeyError, TypeError, ValueError) as error:
            self._killed_for = Fault(Blame.RUN, f"worker spoke nonsense: {error}")
            worker.kill()
            messages = None
        if messages is None:
            self._died()

    def _take(self, message: Mapping[str, Any]) -> None:
        kind = message["kind"]
        if kind == "fault":
            self._said = dict(message)
        elif kind == "done":
            self._done = str(message["reason"])
        else:
            if kind == "ready":
                self.worker.ready_s = time.monotonic()
                if self._policy.memory_limit_bytes is not None:
                    self._oversize = too_large(self._policy, self._memory_now())
            elif kind == "stats" and HEADLINE_STAGE in message["latency"]:
                self._learn(Histogram.from_wire(message["latency"][HEADLINE_STAGE]))
            self._heard(message)

    def _learn(self, invokes: Histogram) -> None:
        self._slowest_invoke_s = max(self._slowest_invoke_s, invokes.max_ms * 1e-3)
        self._look_at_invoke_s = self._limit_s(is_asleep=True)

    def _invoke_limit_s(self, invoking_s: float) -> float:
        """Of an invoke that has taken so long. The threads are looked at only where that matters."""
        is_asleep = invoking_s > self._look_at_invoke_s and probes.is_asleep(self.worker.pid)
        return self._limit_s(is_asleep=is_asleep)

    def _limit_s(self, *, is_asleep: bool) -> float:
        return invoke_limit_s(
            self._policy, self.worker.counts.inferred, self._slowest_invoke_s,
            is_library=self._is_library, is_asleep=is_asleep,
        )  # fmt: skip


def _fault_from(said: Mapping[str, Any] | None) -> Fault | None:
    """A worker's own account of its end."""
    if said is None:
        return None
    blame = {"start": Blame.START, "run": Blame.RUN, "source": Blame.OUTSIDE}.get(said["blame"], Blame.OTHER)
    return Fault(blame, str(said["message"]))
