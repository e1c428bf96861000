"""The last two hours of the fleet by the minute, per model version: finer than the store's roll-ups, and in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import Report

MINUTES = 120
MAX_MODELS = 200
MAX_STAGES = 12

Model = tuple[str, int]
"""(bundle, version)"""


@dataclass
class Minute:
    """What came in within one minute."""

    stages: dict[str, Histogram] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)
    reports: int = 0
    throttled: int = 0
    """Reports of a board that was held back at that time."""

    def add(self, report: Report, throttled: bool) -> None:
        self.reports += 1
        self.throttled += throttled
        for stage, histogram in report.latency.items():
            known = self.stages.get(stage)
            if known is not None:
                _merge_into(known, histogram)
            elif len(self.stages) < MAX_STAGES:
                self.stages[stage] = Histogram.merged((histogram,))
        for event in report.events:
            if event.kind in self.events or len(self.events) < MAX_STAGES:
                self.events[event.kind] += 1


class MinuteBook:
    """Minutes by model. Not safe between threads: its owner has a lock."""

    def __init__(self) -> None:
        self._minutes: dict[Model, dict[int, Minute]] = {}

    def add(self, received_s: float, reports: Iterable[tuple[Report, bool]]) -> None:
        """reports: with whether its board was throttled. By the collector's clock: devices' clocks differ."""
        now = int(received_s // 60)
        for report, throttled in reports:
            model = report.bundle, report.version
            minutes = self._minutes.get(model)
            if minutes is None:
                if len(self._minutes) >= MAX_MODELS:
                    continue  # names come from elsewhere, and memory is ours
                minutes = self._minutes[model] = {}
            minute = minutes.get(now)
            if minute is None:
                for old in [each for each in minutes if each <= now - MINUTES]:
                    del minutes[old]
                minute = minutes[now] = Minute()
            minute.add(report, throttled)

    def models(self) -> list[Model]:
        return sorted(self._minutes)

    def between(self, first: int, last: int, bundle: str | None, version: int | None) -> dict[int, Minute]:
        """Minutes first..last (unix time / 60, both included) of the models that match, merged."""
        merged: dict[int, Minute] = {}
        for (name, number), minutes in self._minutes.items():
            if bundle not in (None, name) or version not in (None, number):
                continue
            for when, minute in minutes.items():
                if first <= when <= last:
                    into = merged.setdefault(when, Minute())
                    into.reports += minute.reports
                    into.throttled += minute.throttled
                    into.events.update(minute.events)
                    for stage, histogram in minute.stages.items():
                        parts = [histogram, into.stages[stage]] if stage in into.stages else [histogram]
                        into.stages[stage] = Histogram.merged(parts)
        return merged


def _merge_into(known: Histogram, more: Histogram) -> None:
    """`Histogram.merge` without a new one: this runs for every stage of every report."""
    if not more.count:
        return
    known.min_ns = min(known.min_ns, more.min_ns) if known.count else more.min_ns
    known.max_ns = max(known.max_ns, more.max_ns)
    known.sum_ns += more.sum_ns
    known.zero_count += more.zero_count
    buckets = known.buckets
    for index, count in more.buckets.items():
        buckets[index] = buckets.get(index, 0) + count
