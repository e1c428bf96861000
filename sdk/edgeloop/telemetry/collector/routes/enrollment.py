"""A device's credential: `POST /v1/enroll` for a token, `POST /v1/renew` for the credential it has."""

from __future__ import annotations

import json
import math
import time
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgeloop.errors import DataError, EdgeloopError, RefusedError
from edgeloop.telemetry.collector.security.enrollment import NameTakenError, Wanted
from edgeloop.telemetry.collector.security.guard import origin_of
from edgeloop.telemetry.collector.services import Services

MAX_BODY_BYTES = 16 << 10


def routes(services: Services) -> list[Route]:
    """Both answer {"device", "kind", "certificate", "ca", "expires_s"}."""
    security = services.security

    async def enroll(request: Request) -> Response:
        origin = origin_of(request.scope)
        if wait_s := security.tries.wait_s(f"enroll {origin}", time.monotonic()):
            raise HTTPException(429, "too many tries", headers={"Retry-After": str(math.ceil(wait_s))})
        body = await read_json(request)
        token = request.headers.get("authorization", "").partition(" ")[2].strip()
        name = body.get("device")
        if not isinstance(name, str):
            return _said(DataError("device: the name is missing"), 400)

        def work() -> dict[str, Any]:
            issued = security.enrollment.enroll(token, name, Wanted.parse(body), origin).to_dict()
            security.tries.give_back(f"enroll {origin}")  # a hundred devices may share one address
            return issued

        return await _answer(work)

    async def renew(request: Request) -> Response:
        device, origin = request.scope["edgeloop.device"], origin_of(request.scope)
        if device is None:
            return _said(RefusedError("only a device that is enrolled can renew"), 403)
        body = await read_json(request)

        def work() -> dict[str, Any]:
            return security.enrollment.renew(device, Wanted.parse(body), origin).to_dict()

        return await _answer(work)

    return [Route("/v1/enroll", enroll, methods=["POST"]), Route("/v1/renew", renew, methods=["POST"])]


async def _answer(work: Any) -> Response:
    try:
        return JSONResponse(await run_in_threadpool(work))
    except NameTakenError as error:
        return _said(error, 409)
    except RefusedError as error:
        return _said(error, 403)
    except DataError as error:
        return _said(error, 400)


def _said(error: EdgeloopError, status: int) -> Response:
    return JSONResponse({"error": error.message, "hint": error.hint}, status)


async def read_json(request: Request) -> dict[str, Any]:
    """A small JSON object. HTTPException 400 or 413 for anything else."""
    body = await read_small(request)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise HTTPException(400, "send a JSON object")
    return found


async def read_small(request: Request) -> bytes:
    """Stops at the limit, whatever the client announced."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, "too large", headers={"Connection": "close"})
    return bytes(body)
