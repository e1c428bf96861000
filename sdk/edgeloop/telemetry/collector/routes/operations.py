"""How the collector itself is: metrics for Prometheus, health for a load balancer."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgeloop.telemetry.collector import metrics
from edgeloop.telemetry.collector.security.records import check_writable
from edgeloop.telemetry.collector.services import Services
from edgeloop.telemetry.store import StoreUnavailableError
from edgeloop.telemetry.store.dialects import Database
from edgeloop.version import VERSION

MAX_BACKLOG = 1000
"""Batches that wait for their commit; with more the collector is not ready for others."""
_LOOK_AGAIN_S = 1.0


def routes(services: Services) -> list[Route]:
    """`/metrics`, `/healthz` and `/readyz`."""
    ingest, store = services.ingest, services.store
    probe = WriteProbe(store.database)

    def get_metrics(_request: Request) -> Response:
        last = [(stored.received_s, stored.report) for stored in store.latest(limit=metrics.MAX_DEVICES)]
        # Not as `media_type`: Starlette would add a second charset.
        text = metrics.render(ingest.metrics, last, VERSION, store.counts())
        return Response(text.encode(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def get_health(_request: Request) -> Response:
        return JSONResponse({"ok": True, "version": VERSION})

    def get_readiness(_request: Request) -> Response:
        writable, backlog = probe.look(time.monotonic()), services.backlog.batches
        ready = writable and backlog <= MAX_BACKLOG
        said = {"ready": ready, "store_writable": writable, "backlog": backlog}
        return JSONResponse(said, 200 if ready else 503, None if ready else {"Retry-After": "5"})

    return [Route("/metrics", get_metrics), Route("/healthz", get_health), Route("/readyz", get_readiness)]


@dataclass
class WriteProbe:
    """Whether the store takes a write, tried once a second at most: anybody may ask."""

    database: Database
    _at_s: float = -1e9
    _writable: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def look(self, now_s: float) -> bool:
        with self._lock:
            if now_s - self._at_s >= _LOOK_AGAIN_S:
                try:
                    check_writable(self.database)
                    self._writable = True
                except StoreUnavailableError:
                    self._writable = False
                self._at_s = now_s
            return self._writable
