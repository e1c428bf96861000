"""What the collector's endpoints work with."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgeloop.telemetry.collector.commands import CommandQueue
from edgeloop.telemetry.collector.ingest import Ingest
from edgeloop.telemetry.collector.notices import Notices
from edgeloop.telemetry.collector.security.security import Security
from edgeloop.telemetry.fleet.live import LiveFleet
from edgeloop.telemetry.overview import Overview
from edgeloop.telemetry.samples.keeping import Quota
from edgeloop.telemetry.store.database import Store


@dataclass
class Backlog:
    """Batches that were taken and not answered yet. Of the event loop's thread."""

    batches: int = 0


@dataclass(frozen=True)
class Services:
    """One ingest and one store, and what is made over them once."""

    ingest: Ingest
    store: Store
    overview: Overview
    fleet: LiveFleet
    security: Security
    commands: CommandQueue
    backlog: Backlog = field(default_factory=Backlog)
    sample_quota: Quota = field(default_factory=Quota)

    @property
    def notices(self) -> Notices:
        """Where the collector says what is wrong."""
        return self.ingest.notices
