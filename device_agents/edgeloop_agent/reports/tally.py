"""Sums over the life of an agent and over the period of the next report. No I/O; stdlib only."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.hit_rates import hit_rates
from edgeloop.telemetry.report import MAX_EVENTS, STAGES, Event, Report
from edgeloop.telemetry.wire.values import MAX_NAME_CHARS

PERCENTILES = (50, 95, 99)
_VARIANT = "variant:"


@dataclass(frozen=True)
class Counts:
    """What a worker has done since it started: frames taken, inferences, frames refused, result lines lost and written
    (of all sinks together), frames gated and those of them that got an earlier result, and frames that were not taken
    because a newer one came."""

    begun: int = 0
    inferred: int = 0
    errors: int = 0
    sink_errors: int = 0
    sink_lines: int = 0
    gated: int = 0
    reused: int = 0
    dropped: int = 0

    @property
    def in_flight(self) -> int:
        """Frames taken that neither gave a result, nor failed their checks, nor were gated: lost when the worker is
        dead."""
        return max(0, self.begun - self.inferred - self.errors - self.gated)

    def unwritten(self, sinks: int) -> int:
        """Result lines that a worker with so many sinks still held: lost when it is dead."""
        return max(0, (self.inferred + self.reused) * sinks - self.sink_errors - self.sink_lines)


@dataclass(frozen=True)
class RunsOn:
    """What a worker said its model runs on; only what was asked for until one is ready."""

    asked: str = ""
    ran: str = ""
    delegated_ops: int = 0
    total_ops: int = 0
    runtime: str = ""
    note: str = ""


@dataclass(frozen=True)
class Identity:
    """What stays the same in every report of one agent run; `variant` until a worker opens another, see Tally."""

    device: str
    boot: str
    bundle: str
    version: int
    variant: str
    unsigned: bool


@dataclass
class Tally:
    """Add what workers report; `take_report` makes the report of a period and starts the next one."""

    identity: Identity
    runs_on: RunsOn = field(default_factory=RunsOn)
    opened: str = ""
    """The variant that the worker opened: another than the identity's where that one's accelerator is missing."""
    variant: str = ""
    """What runs now, where several take turns in time ("": the one that was opened)."""
    totals: Counter[str] = field(default_factory=Counter)
    total_latency: dict[str, Histogram] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    made: int = 0
    """Reports."""
    next_seq: Callable[[], int] | None = None
    """The number of the next report, where several tallies of one agent share their numbers."""
    profiles: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Gauges of the bundle's bench profile, by variant."""
    on_event: Callable[[Event], None] | None = None
    """Hears of every event at once."""
    last_event: Event | None = None
    faults: deque[str] = field(default_factory=lambda: deque(maxlen=8))
    """The last of its workers, as far as model or delegate may be to blame."""
    more_counts: Callable[[], Mapping[str, int]] = dict
    """What others counted since the last report, asked for each."""
    _seen: Counts = field(default_factory=Counts)
    _passed_over: int = 0
    _period: Counter[str] = field(default_factory=Counter)
    _period_latency: dict[str, Histogram] = field(default_factory=dict)
    _period_events: list[Event] = field(default_factory=list)
    _reported_latency: dict[str, Histogram] = field(default_factory=dict)

    @property
    def taken(self) -> int:
        """Frames that a worker took: without those that made room for newer ones."""
        return self.totals["frames"] - self._passed_over

    def worker_started(self) -> None:
        """A new worker counts from zero."""
        self._seen = Counts()

    def counted(self, counts: Counts) -> None:
        """The running worker's counts, as of now."""
        seen, self._seen = self._seen, counts
        passed_over = counts.dropped - seen.dropped
        self._passed_over += passed_over
        self.count("frames", counts.begun - seen.begun + passed_over)
        self.count("drops", passed_over)
        self.count("inferences", counts.inferred - seen.inferred)
        self.count("errors", counts.errors - seen.errors)
        self.count("sink_errors", counts.sink_errors - seen.sink_errors)
        self.count("gated", counts.gated - seen.gated)
        self.count("cache_hits_l1", counts.reused - seen.reused)

    def worker_ended(self, counts: Counts, sinks: int = 0) -> None:
        """Its last counts; a frame that was in its hands is a drop, a result line a sink error."""
        self.counted(counts)
        self.count("drops", counts.in_flight)
        self.count("sink_errors", counts.unwritten(sinks))

    def count(self, name: str, by: int = 1) -> None:
        if by > 0:
            self.totals[name] += by
            self._period[name] += by

    def ran(self, variant: str, inferences: int) -> None:
        """So many inferences of a bundle whose shape buckets take turns were this variant's."""
        self.count(f"{_VARIANT}{variant}", inferences)

    def measured(self, latency: Mapping[str, Histogram]) -> None:
        """Latencies of some frames, by stage."""
        for stage, histogram in latency.items():
            for kept in (self.total_latency, self._period_latency):
                kept[stage] = kept[stage].merge(histogram) if stage in kept else histogram

    def recent_latency(self, stage: str) -> Histogram:
        """Of the last report's period and what came since."""
        return Histogram.merged(kept[stage] for kept in (self._reported_latency, self._period_latency) if stage in kept)

    def happened(self, event: Event) -> None:
        """A report carries up to MAX_EVENTS of them, the latest; the others are counted."""
        self.last_event = event
        if self.on_event is not None:
            self.on_event(event)
        for kept in (self.events, self._period_events):
            kept.append(event)
            if len(kept) > MAX_EVENTS:
                del kept[0]
                if kept is self._period_events:
                    self.count("events_dropped")

    def take_report(self, *, time_s: float, uptime_s: float, period_s: float, gauges: Mapping[str, float]) -> Report:
        """The report of the period that ends now."""
        for name, count in self.more_counts().items():
            self.count(name, count)
        self.made += 1
        seq = self.made if self.next_seq is None else self.next_seq()
        who, on = self.identity, self.runs_on
        counters = {name: self._period[name] for name in ("frames", "inferences", "errors", "drops")} | self._period
        rates = {"fps": self._period["inferences"] / period_s} if period_s > 0 else {}
        variant = self.variant or self.opened or who.variant
        report = Report(
            device=who.device, boot=who.boot, seq=seq, time_s=time_s, uptime_s=uptime_s, period_s=period_s,
            bundle=who.bundle, version=who.version, variant=_name(variant),
            unsigned=who.unsigned,
            delegate_asked=_name(on.asked), delegate_ran=_name(on.ran), delegated_ops=on.delegated_ops,
            total_ops=on.total_ops, runtime=_name(on.runtime), counters=dict(counters),
            latency=self._period_latency, gauges={**gauges, **self.profiles.get(variant, {}), **rates},
            events=tuple(self._period_events),
        )  # fmt: skip
        self._reported_latency = self._period_latency
        self._period, self._period_latency, self._period_events = Counter(), {}, []
        return report

    def summary(self) -> dict[str, Any]:
        """Everything since the start, as `edgeloop-agent run --json` prints it."""
        on = self.runs_on
        return {
            "device": self.identity.device,
            "bundle": self.identity.bundle,
            "version": self.identity.version,
            "variant": self.opened or self.identity.variant,
            "unsigned": self.identity.unsigned,
            "delegate_asked": on.asked,
            "delegate_ran": on.ran,
            "delegated_ops": on.delegated_ops,
            "total_ops": on.total_ops,
            "runtime": on.runtime,
            **{name: self.totals[name] for name in ("frames", "inferences", "errors", "drops", "sink_errors")},
            "gated": self.totals["gated"],
            "cache": hit_rates(self.totals),
            "audits": {"n": self.totals["audits"], "different": self.totals["audit_differences"]},
            "escalations": self.totals["escalations"],
            "variants": {
                name.removeprefix(_VARIANT): n for name, n in self.totals.items() if name.startswith(_VARIANT)
            },
            "latency": {
                stage: {"n": h.count, **{f"p{p}_ms": round(h.percentile(p), 6) for p in PERCENTILES}}
                for stage, h in ((s, self.total_latency[s]) for s in STAGES if s in self.total_latency)
            },
            "fallbacks": [e.detail for e in self.events if e.kind == "fallback"],
            "restarts": self.totals["worker_restarts"],
            "events": [{"kind": e.kind, "time": e.time_s, "detail": e.detail} for e in self.events],
        }


def _name(text: str) -> str:
    """What a report takes as a name; a delegate's path may be longer, and its end tells more than its middle."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= MAX_NAME_CHARS else f"{text[:20]}...{text[20 + 3 - MAX_NAME_CHARS :]}"
