"""`/v1/openapi.json`: the HTTP API, for programs and tests."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgeloop.telemetry.collector.openapi import describe
from edgeloop.telemetry.collector.services import Services


def routes(_services: Services) -> list[Route]:
    """Made once."""
    text = json.dumps(describe()).encode()

    async def get(_request: Request) -> Response:
        return Response(text, media_type="application/json")

    return [Route("/v1/openapi.json", get)]
