"""What is stored, as JSON."""

from __future__ import annotations

import time
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgeloop.errors import DataError
from edgeloop.telemetry.collector.services import Services
from edgeloop.telemetry.store import Selection


def routes(services: Services) -> list[Route]:
    """`/v1/devices` and `/v1/latency`."""

    def get_devices(_request: Request) -> Response:
        return JSONResponse(services.overview.to_dict(time.time()))

    def get_latency(request: Request) -> Response:
        query = dict(request.query_params)
        stage, by = query.pop("stage", None), query.pop("by", "device").split(",")
        found = services.store.latency(_selection(query), by=by)
        groups = [
            {"stage": key[0], **dict(zip(by, key[1:], strict=True)), "n": histogram.count}
            | {f"p{p}_ms": histogram.percentile(p) for p in (50, 95, 99)}
            for key, histogram in found.items()
            if stage in (None, key[0])
        ]
        return JSONResponse({"by": by, "groups": groups})

    return [Route("/v1/devices", get_devices), Route("/v1/latency", get_latency)]


def _selection(query: Mapping[str, str]) -> Selection:
    known = {"device", "boot", "bundle", "version", "variant", "delegate", "since_s", "until_s"}
    if unknown := set(query) - known:
        raise DataError(f"unknown parameter {min(unknown)!r}", hint=f"known: by, stage, {', '.join(sorted(known))}")
    values: dict[str, object] = dict(query)
    try:
        if "version" in query:
            values["version"] = int(query["version"])
        for name in ("since_s", "until_s"):
            if name in query:
                values[name] = float(query[name])
    except ValueError as error:
        raise DataError(str(error)) from error
    return Selection(**values)  # type: ignore[arg-type]
