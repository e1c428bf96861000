"""What is told of a run: lines for people at once, and a report of every period to an outlet. No numpy here either."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Protocol

from edgeloop import probes
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import STAGES, Event, Report
from edgeloop_agent.reports.board_health import BoardHealth
from edgeloop_agent.reports.profiles import accelerator_gauges
from edgeloop_agent.reports.tally import RunsOn, Tally
from edgeloop_agent.supervisor.fallback_clock import FallbackClock
from edgeloop_agent.supervisor.launcher import WorkerProcess

_RAN_ON_FIELDS = frozenset(f.name for f in fields(RunsOn))


class Outlet(Protocol):
    """Where reports go."""

    def submit(self, report: Report) -> None:
        """Keep it safe for delivery. Never raises: what cannot be kept is counted."""

    def gauges(self) -> dict[str, float]:
        """How much waits."""


class NoOutlet:
    """Without `--telemetry` there are no reports beyond the table at the end."""

    def submit(self, report: Report) -> None:
        pass

    def gauges(self) -> dict[str, float]:
        return {}


class Reporting:
    """The reports of one run. `tell` gets lines for people; `board` is all models' of the agent, so that what it does
    is said once; `worker` is the one that runs now, None between two.

    Messages are those of a worker, see `ipc`: KeyError, TypeError, ValueError or DataError where one is nonsense.
    """

    def __init__(
        self,
        tally: Tally,
        outlet: Outlet,
        tell: Callable[[str], None],
        fallback: FallbackClock,
        board: BoardHealth,
        *,
        threads: int,
        interval_s: float,
    ) -> None:
        self._tally = tally
        self._outlet = outlet
        self._tell = tell
        self._fallback = fallback
        self._threads = threads
        self._board = board
        self._interval_s = interval_s
        self._worker_rss_bytes = 0
        self._worker_gauges: dict[str, float] = {}
        self._last_done_s: float | None = None
        self._started_s = self._period_started_s = time.monotonic()

    def due_in_s(self, now_s: float) -> float:
        """Until the period is over; not above 0 when it is."""
        return self._period_started_s + self._interval_s - now_s

    def until(self, last_done_s: float) -> None:
        """What a worker did ends with its last word: how long its process takes to go is not part of the period."""
        self._last_done_s = last_done_s

    def happened(self, kind: str, detail: str) -> None:
        self._tally.happened(Event(kind, time.time(), detail))
        if kind != "failed":  # that one is printed by whoever ends the program
            self._tell(f"{kind}: {detail}")

    def measured(self, stats: Mapping[str, Any]) -> None:
        """Take a message of kind "stats"."""
        self._worker_rss_bytes = int(stats["rss_bytes"])
        self._tally.measured({s: Histogram.from_wire(stats["latency"][s]) for s in STAGES if s in stats["latency"]})
        for name, count in stats.get("variants", {}).items():
            self._tally.ran(str(name), int(count))
        for name, count in stats.get("counters", {}).items():
            self._tally.count(str(name), int(count))
        self._worker_gauges = {str(name): float(value) for name, value in stats.get("gauges", {}).items()}

    def ready(self, message: Mapping[str, Any]) -> None:
        """What the model runs on, from a message of kind "ready"."""
        self._tally.runs_on = _runs_on(message)
        self._tally.opened, self._tally.variant = str(message["opened"]), str(message["variant"])
        self._tell(_ready_line(self._tally, message))

    def switched(self, message: Mapping[str, Any], worker: WorkerProcess) -> None:
        """Another variant runs from now on: no report holds latencies of two."""
        self.report(worker)
        self._tally.variant, self._tally.runs_on = str(message["variant"]), _runs_on(message)

    def before_delegate(self, delegate: str) -> None:
        """A report is about one delegate: what comes now is about this one."""
        self.report(None)
        self._tally.runs_on = RunsOn(asked=delegate)
        self._tally.opened = self._tally.variant = ""

    def report(self, worker: WorkerProcess | None) -> None:
        """Hand over the report of the period that ends now, and start the next one."""
        now = time.monotonic() if self._last_done_s is None else self._last_done_s
        if worker is not None:
            self._tally.counted(worker.counts)
        gauges = self._gauges(worker)
        for text in self._board.news():
            self.happened("throttling", text)
        report = self._tally.take_report(
            time_s=time.time(),
            uptime_s=now - self._started_s,
            period_s=max(0.0, now - self._period_started_s),
            gauges=gauges,
        )
        self._period_started_s = now
        self._outlet.submit(report)

    def _gauges(self, worker: WorkerProcess | None) -> dict[str, float]:
        """As they are now; the memory of a worker that ended in this period as it was last told."""
        gauges = self._board.gauges() | self._outlet.gauges() | self._worker_gauges
        gauges |= self._fallback.gauges(time.monotonic())
        gauges |= accelerator_gauges(self._tally.runs_on.ran)
        worker_bytes = (worker and probes.rss_bytes(worker.pid)) or self._worker_rss_bytes
        gauges["threads"] = float(self._threads)  # a latency says nothing without them
        if "rss_bytes" in gauges:
            gauges["rss_bytes"] += worker_bytes
        if worker is None:
            self._worker_rss_bytes = 0
        return gauges


def _runs_on(message: Mapping[str, Any]) -> RunsOn:
    return RunsOn(**{k: v for k, v in message["ran_on"].items() if k in _RAN_ON_FIELDS})


def _ready_line(tally: Tally, message: Mapping[str, Any]) -> str:
    who, on = tally.identity, tally.runs_on
    golden = message["golden"]
    tested = f"golden self-test passed on {golden['n']} samples" if golden else "no golden samples"
    note = f" {on.note}" if on.note else ""
    return (
        f"{who.bundle} {who.version} ({tally.opened}) runs on {on.ran}: {on.delegated_ops} of {on.total_ops} ops, "
        f"{on.runtime}; {tested}; loaded in {message['load_ms']:.0f} ms{note}"
    )
