"""What is stored, as JSON."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgeloop.errors import DataError, UsageError
from edgeloop.telemetry.collector.security.records import parse_tags
from edgeloop.telemetry.collector.services import Services
from edgeloop.telemetry.reading.local import LocalReader
from edgeloop.telemetry.reading.query_string import parse_question
from edgeloop.telemetry.reading.stages import check_stage


def routes(services: Services) -> list[Route]:
    """`/v1/devices` and `/v1/latency`."""

    reader = LocalReader(services.store)

    def get_devices(request: Request) -> Response:
        group, tags = _members(request)
        known = {device.device: device for device in services.security.registry.list(group, tags)}
        names = known.keys() if group is not None or tags else None
        found = services.overview.to_dict(time.time(), request.query_params.get("after", ""), names)
        for device in found["devices"]:
            registered = known.get(device["device"])
            device |= {"group": registered.group if registered else "", "tags": registered.tags if registered else {}}
        return JSONResponse(found)

    def get_latency(request: Request) -> Response:
        query = dict(request.query_params)
        stage, by = query.pop("stage", None), query.pop("by", "device").split(",")
        found = reader.latency(parse_question(query), by)
        if stage is not None:
            check_stage(stage, found)
        groups = [
            {"stage": key[0], **dict(zip(by, key[1:], strict=True)), "n": histogram.count}
            | {f"p{p}_ms": histogram.percentile(p) for p in (50, 95, 99)}
            for key, histogram in found.items()
            if stage in (None, key[0])
        ]
        return JSONResponse({"by": by, "groups": groups})

    return [Route("/v1/devices", get_devices), Route("/v1/latency", get_latency)]


def _members(request: Request) -> tuple[str | None, dict[str, str]]:
    """`?group=lab&tag=site:berlin&tag=rack:4`, beside `after`."""
    query = request.query_params
    if unknown := set(query) - {"group", "tag", "after"}:
        raise DataError(f"unknown parameter {min(unknown)!r}", hint="known: group, tag, after")
    try:
        return query.get("group"), parse_tags([tag.replace(":", "=", 1) for tag in query.getlist("tag")])
    except UsageError as error:
        raise DataError(error.message, hint="tag=KEY:VALUE") from error
