"""Questions to telemetry from Python:

with el.telemetry.open("sqlite:///telemetry.db") as t:            # a store, or a collector: "https://host:8443?ca=ca.pem"
    t.latency("ic", version=2, stage="invoke", by="device").percentile(95)      # {"pi-1": 12.3, "pi-2": 14.0}
    [event.detail for event in t.events(kind="fallback", since="7d")]
    t.to_pandas(device="pi-1", since="2h")                        # a row per report, if pandas is installed
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict

from edgeloop.errors import DataError, UsageError
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.reading import Question, Reader, open_reader
from edgeloop.telemetry.reading.stages import check_stage
from edgeloop.telemetry.report import HEADLINE_STAGE, Report
from edgeloop.telemetry.store import DEFAULT_STORE_URL, Selection
from edgeloop.telemetry.times import parse_time

if TYPE_CHECKING:
    from typing_extensions import Unpack

Group = Any
"""A group's name, e.g. a device; a tuple of names where it was grouped by several columns."""


class Filters(TypedDict, total=False):
    """What may be asked for by name. since, until: unix seconds, a datetime, or `2h`, `7d` ago, an ISO date or time; by
    the device's clock, `until` excluded. group, tag: as the collector's registry has them."""

    device: str
    boot: str
    version: int
    variant: str
    delegate: str
    group: str
    tag: str
    since: float | str | datetime
    until: float | str | datetime


@dataclass(frozen=True)
class LatencyByGroup:
    """Merged histograms by group, e.g. by device."""

    histograms: Mapping[Group, Histogram]

    def percentile(self, p: float) -> dict[Group, float]:
        """ms by group; p is 0..100."""
        return {group: histogram.percentile(p) for group, histogram in self.histograms.items()}

    def count(self) -> dict[Group, int]:
        """Samples by group."""
        return {group: histogram.count for group, histogram in self.histograms.items()}

    def merged(self) -> Histogram:
        """All groups in one."""
        return Histogram.merged(self.histograms.values())

    def to_pandas(self) -> Any:
        """A DataFrame with a row per group: n, p50_ms, p95_ms, p99_ms, mean_ms, max_ms. UsageError without pandas."""
        rows = [
            {"n": h.count, **{f"p{p}_ms": h.percentile(p) for p in (50, 95, 99)}, "mean_ms": h.mean_ms}
            | {"max_ms": h.max_ms}
            for h in self.histograms.values()
        ]
        return _pandas().DataFrame(rows, index=list(self.histograms))


@dataclass(frozen=True)
class Device:
    """A device as it was last heard of: `last` is that report, without its latency and events."""

    device: str
    received_s: float
    last: Report


@dataclass(frozen=True)
class DeviceEvent:
    """Something that happened once on a device, see `edgeloop.telemetry.report.Event`."""

    device: str
    bundle: str
    version: int
    kind: str
    time_s: float
    detail: str


@dataclass(frozen=True)
class Telemetry:
    """A store or a running collector, opened for reading. Use as a context manager, or `close()` it.

    Every method takes the names of `Filters`; DataError and UsageError for what cannot be asked, DeviceError where the
    store or collector is away.
    """

    reader: Reader

    def __enter__(self) -> Telemetry:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        self.reader.close()

    def reports(self, bundle: str | None = None, **filters: Unpack[Filters]) -> Iterator[Report]:
        """In the order of arrival, read in pages."""
        return (stored.report for stored in self.reader.reports(_question(bundle, filters)))

    def devices(self, bundle: str | None = None, **filters: Unpack[Filters]) -> list[Device]:
        """By name: those whose last report matches."""
        found = self.reader.latest(_question(bundle, filters))
        return [Device(stored.report.device, stored.received_s, stored.report) for stored in found]

    def events(
        self, bundle: str | None = None, *, kind: str | None = None, **filters: Unpack[Filters]
    ) -> Iterator[DeviceEvent]:
        """In the order of arrival; kind: "fallback", "restart", "variant_switch", "throttling", ..."""
        for report in self.reports(bundle, **filters):
            for event in report.events:
                if kind in (None, event.kind):
                    yield DeviceEvent(
                        report.device, report.bundle, report.version, event.kind, event.time_s, event.detail
                    )

    def histogram(
        self, bundle: str | None = None, *, stage: str = HEADLINE_STAGE, **filters: Unpack[Filters]
    ) -> Histogram:
        """All samples of a stage in one histogram; empty when there are none."""
        return self._of_stage(stage, _question(bundle, filters), ()).get((), Histogram())

    def latency(
        self,
        bundle: str | None = None,
        *,
        stage: str = HEADLINE_STAGE,
        by: str | Sequence[str] = "device",
        **filters: Unpack[Filters],
    ) -> LatencyByGroup:
        """Merged exactly, over devices and days, by one column or several.

        by: "device", "boot", "bundle", "version", "variant" or "delegate"; DataError for anything else. Groups are
        text, tuples of text where `by` is a sequence.
        """
        single = isinstance(by, str)
        found = self._of_stage(stage, _question(bundle, filters), (by,) if isinstance(by, str) else tuple(by))
        return LatencyByGroup({group[0] if single else group: histogram for group, histogram in found.items()})

    def _of_stage(self, stage: str, question: Question, by: Sequence[str]) -> dict[tuple[str, ...], Histogram]:
        found = self.reader.latency(question, by, stage)
        groups = {key[1:]: histogram for key, histogram in found.items() if key[0] == stage}
        if not groups:
            check_stage(stage, self.reader.latency(question))
        return groups

    def to_pandas(self, bundle: str | None = None, **filters: Unpack[Filters]) -> Any:
        """A DataFrame with a row per report and the columns of an export, times as UTC. UsageError without
        pandas."""
        pandas = _pandas()
        from edgeloop.telemetry.export.rows import COLUMN_TYPES, TIME, table_row

        rows = [table_row(stored) for stored in self.reader.reports(_question(bundle, filters))]
        frame = pandas.DataFrame(rows, columns=list(COLUMN_TYPES))
        for name, kind in COLUMN_TYPES.items():
            if kind == TIME:
                frame[name] = pandas.to_datetime(frame[name], unit="s", utc=True)
        return frame


def open_telemetry(url: str = DEFAULT_STORE_URL) -> Telemetry:
    """The store at `url`, which must be there, or the running collector at an `http(s)://` address; a collector that
    wants a login gets the token in the environment variable EDGELOOP_TOKEN. Errors as `open_reader`."""
    return Telemetry(open_reader(url))


def _question(bundle: str | None, filters: Mapping[str, Any]) -> Question:
    given = dict(filters)
    since, until, group, tag = (given.pop(name, None) for name in ("since", "until", "group", "tag"))
    now_s = time.time()
    try:
        selection = Selection(bundle=bundle, since_s=_time(since, now_s), until_s=_time(until, now_s), **given)
    except TypeError:
        known = ", ".join(Filters.__annotations__)
        raise DataError(f"no filter of the name {min(given)!r}", hint=f"known: bundle, {known}") from None
    return Question(selection, group, tag)


def _time(value: float | str | datetime | None, now_s: float) -> float | None:
    if isinstance(value, datetime):
        return value.timestamp()
    return parse_time(value, now_s, "since, until") if isinstance(value, str) else value


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise UsageError("to_pandas() needs pandas", hint="pip install pandas") from error
    return pandas
