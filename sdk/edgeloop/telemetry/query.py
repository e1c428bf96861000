"""Questions to a store from Python:

store = el.telemetry.open("sqlite:///telemetry.db")
store.latency("ic", version=2, stage="invoke", by="device").percentile(95)      # {"pi-1": 12.3, "pi-2": 14.0}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import Report
from edgeloop.telemetry.store import DEFAULT_STORE_URL, Selection, open_store

if TYPE_CHECKING:
    from edgeloop.telemetry.store.database import Store


@dataclass(frozen=True)
class LatencyByGroup:
    """Merged histograms by group, e.g. by device."""

    histograms: Mapping[str, Histogram]

    def percentile(self, p: float) -> dict[str, float]:
        """ms by group."""
        return {group: histogram.percentile(p) for group, histogram in self.histograms.items()}

    def count(self) -> dict[str, int]:
        """Samples by group."""
        return {group: histogram.count for group, histogram in self.histograms.items()}


@dataclass(frozen=True)
class Telemetry:
    """A store, opened for reading. Use as a context manager, or `close()` it."""

    store: Store

    def __enter__(self) -> Telemetry:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        self.store.close()

    def reports(self, selection: Selection | None = None) -> Iterator[Report]:
        """In the order of arrival, read in pages."""
        return (stored.report for stored in self.store.reports(selection or Selection()))

    def histogram(
        self,
        bundle: str | None = None,
        *,
        version: int | None = None,
        stage: str = "invoke",
        device: str | None = None,
    ) -> Histogram:
        """All samples of a stage in one histogram; empty when there are none."""
        chosen = Selection(bundle=bundle, version=version, device=device)
        return self.store.latency(chosen).get((stage,), Histogram())

    def latency(
        self,
        bundle: str | None = None,
        *,
        version: int | None = None,
        stage: str = "invoke",
        device: str | None = None,
        by: str = "device",
    ) -> LatencyByGroup:
        """by: "device", "boot", "bundle", "version", "variant" or "delegate"; DataError for anything else."""
        found = self.store.latency(Selection(bundle=bundle, version=version, device=device), by=(by,))
        return LatencyByGroup({key[1]: histogram for key, histogram in found.items() if key[0] == stage})


def open_telemetry(url: str = DEFAULT_STORE_URL) -> Telemetry:
    """The store at `url`, which must be there. Errors as `open_store`."""
    return Telemetry(open_store(url, create=False))
