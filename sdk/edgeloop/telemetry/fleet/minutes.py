"""The last two hours of the fleet by the minute, per model version: finer than the store's roll-ups, and in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import Report
from edgeloop.telemetry.wire.histogram_arrays import RunningMerge
from edgeloop.telemetry.wire.latency import wires_of
from edgeloop.telemetry.wire.together import LatencySums

MINUTES = 120
MAX_MODELS = 200
MAX_STAGES = 12

Model = tuple[str, int]
"""(bundle, version)"""


@dataclass
class Minute:
    """What came in within one minute."""

    running: dict[str, RunningMerge] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)
    reports: int = 0
    throttled: int = 0
    """Reports of a board that was held back at that time."""

    @property
    def stages(self) -> dict[str, Histogram]:
        """Latency by stage; not to be changed."""
        return {stage: running.total() for stage, running in self.running.items()}

    def settle(self) -> None:
        """Give away what waits to be merged: nothing more is to come."""
        for running in self.running.values():
            running.total()

    def add(self, report: Report, throttled: bool, *, latency: bool = True) -> None:
        self.reports += 1
        self.throttled += throttled
        if latency:
            for stage, wire in wires_of(report.latency).items():
                if (running := self.of_stage(stage)) is not None:
                    running.add(wire)
        for event in report.events:
            if event.kind in self.events or len(self.events) < MAX_STAGES:
                self.events[event.kind] += 1

    def of_stage(self, stage: str) -> RunningMerge | None:
        """None for one too many."""
        if stage not in self.running and len(self.running) < MAX_STAGES:
            self.running[stage] = RunningMerge()
        return self.running.get(stage)


class MinuteBook:
    """Minutes by model. Not safe between threads: its owner has a lock."""

    def __init__(self) -> None:
        self._minutes: dict[Model, dict[int, Minute]] = {}

    def add(self, received_s: float, reports: Iterable[tuple[Report, bool]], *, latency: bool = True) -> None:
        """reports: with whether its board was throttled. By the collector's clock: devices' clocks differ.

        latency: False where `add_latency` brings it.
        """
        now = int(received_s // 60)
        for report, throttled in reports:
            minute = self._minute((report.bundle, report.version), now)
            if minute is not None:
                minute.add(report, throttled, latency=latency)

    def add_latency(self, received_s: float, latency: LatencySums) -> None:
        """Of reports that came in at that time."""
        for ((bundle, version, _variant, _delegate), stage), histogram in latency.items():
            minute = self._minute((bundle, version), int(received_s // 60))
            if minute is not None and (running := minute.of_stage(stage)) is not None:
                running.include(histogram)

    def _minute(self, model: Model, now: int) -> Minute | None:
        """None for a model too many: names come from elsewhere, and memory is ours."""
        minutes = self._minutes.get(model)
        if minutes is None:
            if len(self._minutes) >= MAX_MODELS:
                return None
            minutes = self._minutes[model] = {}
        minute = minutes.get(now)
        if minute is None:
            for old in [each for each in minutes if each <= now - MINUTES]:
                del minutes[old]
            for past in minutes.values():
                past.settle()
            minute = minutes[now] = Minute()
        return minute

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
                        into.running.setdefault(stage, RunningMerge()).include(histogram)
        return merged
