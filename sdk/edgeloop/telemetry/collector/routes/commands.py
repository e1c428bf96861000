"""Commands to devices: post one that an operator signed, ask what came of it."""

from __future__ import annotations

import asyncio
import difflib
import time
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgeloop.errors import DataError
from edgeloop.telemetry.collector.commands import QueuedCommand, TooManyError
from edgeloop.telemetry.collector.routes.reports import CBOR
from edgeloop.telemetry.collector.services import Services
from edgeloop.telemetry.commands.codec import MAX_COMMAND_BYTES
from edgeloop.telemetry.store import Selection

_MAX_WAIT_S = 20.0
_LOOK_EVERY_S = 0.1
_NAMES_LOOKED_AT = 1000


def routes(services: Services) -> list[Route]:
    """`/v1/devices/NAME/commands` and `/v1/commands/ID`."""
    queue = services.commands

    def get_commands(request: Request) -> Response:
        """What an operator has to know to sign: the boot, its uptime, the highest counter; and what was asked last."""
        device = request.path_params["device"]
        latest = services.store.latest(Selection(device=device))
        on_line = queue.is_on_a_line(device)
        if not latest and not on_line:
            raise _unknown(services, device)
        boot, uptime_s = "", 0.0
        if latest:
            last = max(latest, key=lambda stored: stored.received_s)
            boot = last.report.boot
            # At least so old: a report may have waited on the device.
            uptime_s = last.report.uptime_s + max(0.0, time.time() - last.received_s)
        return JSONResponse(
            {
                "device": device,
                "on_line": on_line,
                "boot": boot,
                "uptime_s": round(uptime_s, 3),
                "last_counter": queue.last_counter(device, boot),
                "commands": [command.to_dict() for command in queue.recent(device)],
            }
        )

    async def post_command(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != CBOR:
            raise HTTPException(415, f"send {CBOR}")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_COMMAND_BYTES:
                raise HTTPException(413, f"a command has {MAX_COMMAND_BYTES} bytes at most")
        device = request.path_params["device"]
        if not queue.is_on_a_line(device) and not await run_in_threadpool(
            services.store.latest, Selection(device=device), limit=1
        ):
            raise await run_in_threadpool(_unknown, services, device)
        try:
            queued = await run_in_threadpool(queue.add, device, bytes(body))
        except TooManyError as error:
            raise HTTPException(429, error.message, headers={"Retry-After": "30"}) from error
        except DataError as error:
            raise HTTPException(400, error.message) from error
        return JSONResponse(queued.to_dict(), 202)

    async def get_command(request: Request) -> Response:
        """`?wait_s=N`: answered when the device has answered, or after so long."""
        until_s = time.monotonic() + _wait_s(request.query_params.get("wait_s", "0"))
        while True:
            found: QueuedCommand | None = await run_in_threadpool(queue.get, request.path_params["id"])
            if found is None:
                raise HTTPException(404, "there is no such command")
            is_over = time.monotonic() >= until_s or await request.is_disconnected()
            if found.state in ("answered", "expired") or is_over:
                return JSONResponse(found.to_dict())
            await asyncio.sleep(_LOOK_EVERY_S)

    device_path = "/v1/devices/{device}/commands"
    return [
        Route(device_path, get_commands),
        Route(device_path, post_command, methods=["POST"]),
        Route("/v1/commands/{id}", get_command),
    ]


def _unknown(services: Services, device: str) -> HTTPException:
    names = [stored.report.device for stored in services.store.latest(limit=_NAMES_LOOKED_AT)]
    near = difflib.get_close_matches(device, names, 3)
    also = f"; did you mean {' or '.join(near)}?" if near else ""
    return HTTPException(404, f"no report of {device} has arrived here{also}")


def _wait_s(text: Any) -> float:
    try:
        wait_s = float(text)
    except ValueError:
        wait_s = -1.0
    if not 0 <= wait_s <= _MAX_WAIT_S:
        raise HTTPException(400, f"wait_s is 0 to {_MAX_WAIT_S:g} seconds")
    return wait_s
