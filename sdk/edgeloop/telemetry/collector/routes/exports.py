"""What is stored, whole: reports and histograms as devices sent them, for programs elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

import cbor2
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgeloop.telemetry.collector.services import Services
from edgeloop.telemetry.reading.local import LocalReader
from edgeloop.telemetry.reading.query_string import parse_count, parse_question
from edgeloop.telemetry.wire.codec import encode_report

if TYPE_CHECKING:
    from edgeloop.telemetry.store.rows import StoredReport

MAX_PAGE_ROWS = 500


def routes(services: Services) -> list[Route]:
    """`/v1/export/reports`, `devices`, `recent`, `latency` and `events` beside it: CBOR arrays."""
    reader = LocalReader(services.store)

    def get_reports(request: Request) -> Response:
        query = dict(request.query_params)
        question = parse_question(query, "after_id", "limit")
        limit = parse_count(query, "limit", MAX_PAGE_ROWS, MAX_PAGE_ROWS)
        after_id = parse_count(query, "after_id", 0, 2**63 - 1)
        return _answer(_rows(islice(reader.reports(question, after_id=after_id), limit)))

    def get_devices(request: Request) -> Response:
        return _answer(_rows(reader.latest(parse_question(dict(request.query_params)))))

    def get_recent(request: Request) -> Response:
        query = dict(request.query_params)
        return _answer(_rows(reader.recent(parse_question(query).selection.device or "")))

    def get_latency(request: Request) -> Response:
        query = dict(request.query_params)
        by = [name for name in query.get("by", "").split(",") if name]
        found = reader.latency(parse_question(query, "by"), by)
        return _answer([[list(key), histogram.to_wire()] for key, histogram in found.items()])

    def get_events(request: Request) -> Response:
        query = dict(request.query_params)
        question = parse_question(query, "kinds", "after_id")
        kinds = [kind for kind in query.get("kinds", "").split(",") if kind]
        found = reader.events(question, kinds, after_id=parse_count(query, "after_id", 0, 2**63 - 1))
        return _answer([list(vars(event).values()) for event in found])

    return [
        Route("/v1/export/reports", get_reports),
        Route("/v1/export/devices", get_devices),
        Route("/v1/export/recent", get_recent),
        Route("/v1/export/latency", get_latency),
        Route("/v1/export/events", get_events),
    ]


def _rows(reports: Iterable[StoredReport]) -> list[list[object]]:
    """[id, when it arrived, the report as it was sent]."""
    return [[stored.id, stored.received_s, encode_report(stored.report)] for stored in reports]


def _answer(value: object) -> Response:
    return Response(cbor2.dumps(value), media_type="application/cbor")
