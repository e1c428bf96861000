"""Alerts as JSON."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgeloop.telemetry.alerts.book import AlertBook
from edgeloop.telemetry.collector.services import Services


def routes(services: Services) -> list[Route]:
    """`/v1/alerts`: {now_s, rules[], alerts[]}, those that fire first."""
    book = AlertBook(services.store.database)

    def get_alerts(_request: Request) -> Response:
        found = [alert.to_dict() for alert in book.recent()]
        return JSONResponse({"now_s": time.time(), "rules": services.fleet.rules, "alerts": found})

    return [Route("/v1/alerts", get_alerts)]
