"""When reports were made, by clocks that may be wrong: a board without a battery starts in 1970 or where it stopped.

What is never wrong is the uptime: it counts from the agent's start and does not jump. So the reports of one boot stand
at the right distances from each other by themselves, and only one number per boot is to be found: when it began.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgeloop.telemetry.report import Report

TOLERANCE_S = 120.0
"""Clocks that differ by less count as right: a line's delay, drift and leap seconds are not a wrong clock."""
OLDEST_S = 1_577_836_800.0
"""2020-01-01 in unix time: a clock before it was never set."""


@dataclass(frozen=True)
class SentAt:
    """A device's clocks when it handed over a batch: unix time as it believed, and uptime of this boot."""

    boot: str
    time_s: float
    uptime_s: float


class ReportsSentNow(tuple[bytes, ...]):
    """Encoded reports on their way to a collector that gets them within seconds; `sent`: the device's clocks now."""

    sent: SentAt

    @classmethod
    def of(cls, reports: Iterable[bytes], sent: SentAt) -> ReportsSentNow:
        """The same reports, with the time of sending."""
        stamped = cls(reports)
        stamped.sent = sent
        return stamped


def corrected_times(reports: Sequence[Report], received_s: float, sent: SentAt | None = None) -> list[float]:
    """Unix time at which each report of one batch of one device was made, as well as the collector can tell.

    A report's own `time_s` stands where it can be right: within TOLERANCE_S of what its boot's beginning says. That
    beginning is, per boot, by the first of these that there is:
    - `sent`, of the same boot: received_s - uptime when sent
    - the latest that the batch's reports imply (time - uptime) and that is neither before OLDEST_S nor puts a report
      after `received_s`: of two clocks the later one was set last
    - `received_s` less the longest uptime: the newest report was made just now
    """
    begins = {boot: _begin_s([r for r in reports if r.boot == boot], received_s, sent) for boot in _boots(reports)}
    corrected = []
    for report in reports:
        made_s = begins[report.boot] + report.uptime_s
        is_right = abs(made_s - report.time_s) <= TOLERANCE_S
        corrected.append(report.time_s if is_right else min(max(made_s, 0.0), received_s))
    return corrected


def _boots(reports: Sequence[Report]) -> set[str]:
    return {report.boot for report in reports}


def _begin_s(reports: Sequence[Report], received_s: float, sent: SentAt | None) -> float:
    """Unix time at which the boot of these reports began."""
    if sent is not None and sent.boot == reports[0].boot:
        return received_s - sent.uptime_s
    latest_s = received_s - max(report.uptime_s for report in reports)
    implied = (report.time_s - report.uptime_s for report in reports if report.time_s >= OLDEST_S)
    return max((begin_s for begin_s in implied if begin_s <= latest_s + TOLERANCE_S), default=latest_s)
