"""Reading telemetry, wherever it is: a store, or a running collector. One question, one kind of answer.

reader = open_reader("sqlite:///telemetry.db")      # or postgresql://..., http://127.0.0.1:8080, https://...
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from edgeloop.telemetry.store.selection import Selection

if TYPE_CHECKING:
    from edgeloop.telemetry.histogram import Histogram
    from edgeloop.telemetry.store.rows import StoredEvent, StoredReport

Latency = dict[tuple[str, ...], "Histogram"]
"""Merged histograms by (stage, then what was grouped by, as text)."""


@dataclass(frozen=True)
class Question:
    """Reports that match the selection, of devices in the group and with the tag of the collector's registry."""

    selection: Selection = field(default_factory=Selection)
    group: str | None = None
    tag: str | None = None

    @property
    def asks_registry(self) -> bool:
        return self.group is not None or self.tag is not None


class Reader(Protocol):
    """Where telemetry can be read. For one thread."""

    def reports(self, question: Question) -> Iterator[StoredReport]:
        """In the order of arrival, read in pages."""

    def latest(self, question: Question) -> list[StoredReport]:
        """The last report of every device by device name, without latency and events, where that report matches."""

    def latency(self, question: Question, by: Sequence[str] = (), stage: str | None = None) -> Latency:
        """by: any of "device", "boot", "bundle", "version", "variant", "delegate"; DataError for anything else.
        stage: nobody asks for another one, which may be left out."""

    def events(self, question: Question, kinds: Collection[str], *, after_id: int = 0) -> list[StoredEvent]:
        """Events of these kinds in the order of arrival, of the reports that match; of those after the one with that
        id."""

    def recent(self, device: str) -> list[StoredReport]:
        """The device's last reports (`overview.WINDOW_REPORTS` of them at most), oldest first."""

    def ranked(self, order: str, limit: int, bundle: str | None) -> Sequence[Mapping[str, Any]] | None:
        """The first `limit` devices of the whole fleet, in the form of `overview` but with one stage; None where only
        an overview can be had. order: as `edgeloop monitor --sort`."""

    def overview(self, now_s: float) -> Mapping[str, Any]:
        """The devices as they are now, in the form of `/v1/devices`; of a large fleet the first by name."""

    def total(self) -> int | None:
        """Reports that came in, about; None where that cannot be told. For a progress bar."""

    def close(self) -> None: ...


def open_reader(url: str) -> Reader:
    """`http://` and `https://` are a running collector, everything else is a store, which must be there.

    Raises as `open_store`, and UsageError for an address without a host. A collector that is away shows when it is
    asked (DeviceError).
    """
    if url.startswith(("http://", "https://")):
        from edgeloop.telemetry.reading.remote import RemoteReader

        return RemoteReader(url)
    from edgeloop.telemetry.reading.local import LocalReader
    from edgeloop.telemetry.store import open_store

    return LocalReader(open_store(url, create=False))
