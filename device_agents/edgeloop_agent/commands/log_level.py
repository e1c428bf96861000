"""How much the agent says of itself: `tell` with a level that an operator can change while it runs."""

from __future__ import annotations

from collections.abc import Callable

from edgeloop.telemetry.report import Report
from edgeloop_agent.reports.reporting import Outlet

_TROUBLE = frozenset(
    {
        "warning",
        "telemetry",
        "fallback",
        "restart",
        "quarantine",
        "failed",
        "throttling",
        "source_lost",
        "reload refused",
    }
)
"""What a line starts with, after the model's name where there are several, when something is wrong."""


class LogLevel:
    """`warning`: only what is wrong; `info`: as always; `debug`: every report and command, too."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.level = "info"
        self._say = say

    def tell(self, text: str) -> None:
        """A line of level info, or of level warning where its first word says so."""
        if self.level != "warning" or any(part in _TROUBLE for part in text.split(": ")[:2]):
            self._say(text)

    def debug(self, text: str) -> None:
        if self.level == "debug":
            self._say(f"debug: {text}")


class NarratedOutlet:
    """An outlet whose reports are told of at level debug."""

    def __init__(self, outlet: Outlet, log: LogLevel) -> None:
        self._outlet, self._log = outlet, log

    def submit(self, report: Report) -> None:
        """See `Outlet.submit`."""
        self._outlet.submit(report)
        done = report.counters.get("inferences", 0)
        self._log.debug(f"report {report.seq} of {report.bundle}: {done} inferences in {report.period_s:.1f} s")

    def gauges(self) -> dict[str, float]:
        """See `Outlet.gauges`."""
        return self._outlet.gauges()
