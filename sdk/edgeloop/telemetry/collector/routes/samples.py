"""Hard samples: in from devices whose owner turned that on, out to operators only."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgeloop.errors import DataError
from edgeloop.telemetry.collector.ingest import DEVICE_REVOKED
from edgeloop.telemetry.collector.security.guard import origin_of
from edgeloop.telemetry.collector.services import Services
from edgeloop.telemetry.samples.keeping import SampleKeeper, SampleQuery, samples_folder
from edgeloop.telemetry.samples.wire import (
    MAX_PIECE_BODY_BYTES,
    REFUSED,
    SAMPLES_PATH,
    Answer,
    Piece,
    decode_piece,
    encode_answer,
)

CBOR = "application/cbor"
_FILTERS = ("device", "bundle", "version", "reason", "sha256", "before_s")


def routes(services: Services) -> list[Route]:
    """`POST /v1/samples` takes a piece; `GET` lists, `DELETE` wipes what a query chooses; `GET .../file` gives one."""
    keeper = SampleKeeper(services.store.database, samples_folder(services.store.url), services.sample_quota)

    def take(piece: Piece, sender: str | None) -> Answer:
        if piece.device in services.ingest.revoked():
            return Answer(REFUSED, reason=DEVICE_REVOKED)
        return keeper.take(piece, sender)

    async def post_piece(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != CBOR:
            raise HTTPException(415, f"send {CBOR}")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_PIECE_BODY_BYTES:
                headers = {"Connection": "close"}
                raise HTTPException(413, f"a piece has {MAX_PIECE_BODY_BYTES} bytes at most", headers=headers)
        piece = decode_piece(bytes(body))
        answer = await run_in_threadpool(take, piece, request.scope.get("edgeloop.device"))
        return Response(encode_answer(answer), media_type=CBOR)

    def get_list(request: Request) -> Response:
        found = keeper.find(_query(request))
        note(request, "samples.list", "", count=len(found))
        return JSONResponse({"samples": [sample.to_dict() for sample in found]})

    def note(request: Request, action: str, subject: str, **detail: Any) -> None:
        who, origin = request.scope["edgeloop.principal"], origin_of(request.scope)
        services.security.audit.add(str(who), action, subject, origin=origin, **detail)

    def delete(request: Request) -> Response:
        query = _query(request)
        gone = keeper.delete(query)
        note(request, "samples.delete", query.device or "", count=gone)
        return JSONResponse({"deleted": gone})

    def get_file(request: Request) -> Response:
        found = keeper.find(_query(request))
        if len(found) != 1:
            raise HTTPException(404, "no such sample")
        note(request, "samples.read", found[0].device, sha256=found[0].sha256)
        return Response(keeper.read(found[0]), media_type="application/octet-stream")

    return [
        Route(SAMPLES_PATH, post_piece, methods=["POST"]),
        Route(SAMPLES_PATH, get_list, methods=["GET"]),
        Route(SAMPLES_PATH, delete, methods=["DELETE"]),
        Route(f"{SAMPLES_PATH}/file", get_file),
    ]


def _query(request: Request) -> SampleQuery:
    """DataError for unknown names and for numbers that are none."""
    given = dict(request.query_params)
    if unknown := set(given) - set(_FILTERS):
        raise DataError(f"unknown parameter {min(unknown)!r}", hint=f"known: {', '.join(_FILTERS)}")
    version, before_s = given.pop("version", None), given.pop("before_s", None)
    try:
        numbers = None if version is None else int(version), None if before_s is None else float(before_s)
    except ValueError as error:
        raise DataError("version and before_s are numbers") from error
    if any(number is not None and not abs(number) < 2**63 for number in numbers):  # also NaN
        raise DataError("version and before_s are numbers in their range")
    return SampleQuery(**given, version=numbers[0], before_s=numbers[1])
