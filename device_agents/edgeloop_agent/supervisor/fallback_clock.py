"""How long a model has run on something else than its first choice. A fallback that lasts is an alert. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

from edgeloop.runtime.delegates import parse_delegate
from edgeloop_agent.reports.tally import RunsOn

ALERT_AFTER_S = 600.0
FALLBACK_GAUGE = "fallback_s"
ALERT_GAUGE = "alert_fallback"
"""Gauges of a report, in seconds; there only while it lasts, the second only once it is an alert."""


@dataclass
class FallbackClock:
    """`first_choice`: the first delegate of the fallback order. Times are seconds of any clock that only grows."""

    first_choice: str
    alert_after_s: float = ALERT_AFTER_S
    _since_s: float | None = None
    _is_alert: bool = False

    def look(self, on: RunsOn, now_s: float) -> tuple[str, str] | None:
        """What happened now, as (kind, detail) of an event: the alert begins ("alert") or is over ("alert_over").

        on: what a worker that is ready runs on; a worker that is still trying its delegate changes nothing.
        """
        if not is_fallback(self.first_choice, on):
            was_alert, self._since_s, self._is_alert = self._is_alert, None, False
            return ("alert_over", f"{on.asked} runs again") if was_alert else None
        if self._since_s is None:
            self._since_s = now_s
        lasted_s = now_s - self._since_s
        if self._is_alert or lasted_s < self.alert_after_s:
            return None
        self._is_alert = True
        return "alert", f"on {on.ran} for {lasted_s:.0f} s now, meant to run on {self.first_choice}"

    def gauges(self, now_s: float) -> dict[str, float]:
        """Of a report that is made now."""
        if self._since_s is None:
            return {}
        lasted_s = now_s - self._since_s
        return {FALLBACK_GAUGE: lasted_s, **({ALERT_GAUGE: lasted_s} if self._is_alert else {})}


def is_fallback(first_choice: str, on: RunsOn) -> bool:
    """Whether another delegate runs than was chosen first, or this one is a library that took not one op.

    XNNPACK that takes nothing is none: it takes no int8 on 32-bit systems, and nothing there can be mended.
    """
    wanted = parse_delegate(first_choice)
    return on.asked != first_choice or (bool(wanted.library) and on.ran != wanted.name)
