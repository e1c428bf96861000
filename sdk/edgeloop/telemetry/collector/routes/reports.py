"""Reports in, acknowledgements out."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgeloop.errors import DataError
from edgeloop.telemetry.collector.gathering import Gathering
from edgeloop.telemetry.collector.services import Services
from edgeloop.telemetry.wire.codec import MAX_BATCH_BYTES, encode_ack

CBOR = "application/cbor"


def routes(services: Services) -> list[Route]:
    """`POST /v1/reports`: a device's batch, answered after its commit; `POST /v1/carried`: one that an operator brings,
    of any device, and with which no commands go."""
    sent = Gathering(services.ingest)
    carried = Gathering(services.ingest.without_commands())

    async def post_reports(request: Request) -> Response:
        return await take_in(request, sent)

    async def post_carried(request: Request) -> Response:
        return await take_in(request, carried)

    async def take_in(request: Request, gathering: Gathering) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != CBOR:
            raise HTTPException(415, f"send {CBOR}")
        body = await _read_body(request)
        services.backlog.batches += 1
        try:
            ack = await gathering.handle(body, request.scope["edgeloop.device"])
        except DataError as error:
            raise HTTPException(400, error.message) from error
        finally:
            services.backlog.batches -= 1
        return Response(encode_ack(ack), media_type=CBOR)

    return [
        Route("/v1/reports", post_reports, methods=["POST"]),
        Route("/v1/carried", post_carried, methods=["POST"]),
    ]


async def _read_body(request: Request) -> bytes:
    """Stops at the limit, whatever the client announced."""
    declared = request.headers.get("content-length", "")
    body = bytearray()
    if not declared.isdigit() or int(declared) <= MAX_BATCH_BYTES:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BATCH_BYTES:
                break
        else:
            return bytes(body)
    raise HTTPException(413, f"a batch has {MAX_BATCH_BYTES} bytes at most", headers={"Connection": "close"})
