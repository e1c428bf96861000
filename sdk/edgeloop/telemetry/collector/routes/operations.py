"""How the collector itself is: metrics for Prometheus, health for a load balancer."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgeloop.telemetry.collector import metrics
from edgeloop.telemetry.collector.services import Services
from edgeloop.version import VERSION


def routes(services: Services) -> list[Route]:
    """`/metrics` and `/healthz`."""
    ingest, store = services.ingest, services.store

    def get_metrics(_request: Request) -> Response:
        last = [(stored.received_s, stored.report) for stored in store.latest(details=False, limit=metrics.MAX_DEVICES)]
        # Not as `media_type`: Starlette would add a second charset.
        text = metrics.render(ingest.metrics, last, VERSION, store.counts())
        return Response(text.encode(), headers={"Content-Type": metrics.CONTENT_TYPE})

    def get_health(_request: Request) -> Response:
        totals = store.counts()
        return JSONResponse({"ok": True, "version": VERSION, "reports": totals.reports, "devices": totals.devices})

    return [Route("/metrics", get_metrics), Route("/healthz", get_health)]
