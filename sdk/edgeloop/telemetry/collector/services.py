"""What the collector's endpoints work with."""

from __future__ import annotations

from dataclasses import dataclass

from edgeloop.telemetry.collector.ingest import Ingest
from edgeloop.telemetry.collector.notices import Notices
from edgeloop.telemetry.fleet.live import LiveFleet
from edgeloop.telemetry.overview import Overview
from edgeloop.telemetry.store.database import Store


@dataclass(frozen=True)
class Services:
    """One ingest and one store, and what is made over them once."""

    ingest: Ingest
    store: Store
    overview: Overview
    fleet: LiveFleet

    @property
    def notices(self) -> Notices:
        """Where the collector says what is wrong."""
        return self.ingest.notices
