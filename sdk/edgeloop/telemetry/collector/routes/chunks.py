"""Files to a device whose line this collector holds: chunks in, the device's acknowledgements out."""

from __future__ import annotations

import asyncio
import time

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgeloop.errors import DataError
from edgeloop.telemetry.collector.chunk_relay import MAX_RELAYED
from edgeloop.telemetry.collector.routes.reports import CBOR
from edgeloop.telemetry.collector.services import Services
from edgeloop.telemetry.serial_link.chunks import CHUNK_BYTES, decode_chunk
from edgeloop.telemetry.wire import strict_cbor
from edgeloop.telemetry.wire.values import as_array, as_bytes, as_number

_MAX_BODY_BYTES = MAX_RELAYED * (CHUNK_BYTES + 16) + 64
_LEFT_S = 0.25
"""Of the line, in chunks that still wait, when the next ones are asked for."""
_WAIT_S = 0.5
_LOOK_EVERY_S = 0.01


def routes(services: Services) -> list[Route]:
    """`/v1/devices/NAME/chunks`."""
    queue = services.commands

    async def post_chunks(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != CBOR:
            raise HTTPException(415, f"send {CBOR}")
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > _MAX_BODY_BYTES:
                raise HTTPException(413, f"{MAX_RELAYED} chunks at once at most")
        transfer_id, chunks = _decoded(bytes(body))
        line = queue.line_of(request.path_params["device"])
        if line is None:
            raise HTTPException(404, "this device is on no line of this collector")
        relay = line.relay
        before = relay.arrived(transfer_id)
        relay.send(transfer_id, chunks)
        enough = max(4, int(_LEFT_S * line.bytes_per_s / CHUNK_BYTES))
        until_s = time.monotonic() + _WAIT_S
        while relay.waiting(transfer_id) > enough or (not chunks and relay.arrived(transfer_id) == before):
            if time.monotonic() > until_s:
                break
            await asyncio.sleep(_LOOK_EVERY_S)
        arrived = relay.arrived(transfer_id).hex()
        return JSONResponse({"arrived": arrived, "bytes_per_s": line.bytes_per_s})

    return [Route("/v1/devices/{device}/chunks", post_chunks, methods=["POST"])]


def _decoded(body: bytes) -> tuple[int, list[bytes]]:
    loaded = strict_cbor.loads(body, what="chunks", max_bytes=_MAX_BODY_BYTES, max_depth=2)
    transfer_id, chunks = as_array(loaded, "chunks", length=2)
    found = [as_bytes(chunk, "chunk") for chunk in as_array(chunks, "chunks")]
    if len(found) > MAX_RELAYED or as_number(transfer_id, "transfer") > 0xFFFF_FFFF:
        raise DataError("too many chunks, or no transfer")
    for chunk in found:
        decode_chunk(chunk)
    return as_number(transfer_id, "transfer"), found
