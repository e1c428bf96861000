"""What the page's views ask for, as JSON: a device, latency over time, model versions."""

from __future__ import annotations

import time
from dataclasses import asdict

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgeloop.errors import DataError
from edgeloop.telemetry.collector.services import Services
from edgeloop.telemetry.fleet import arrivals
from edgeloop.telemetry.fleet.deviation import explain_deviation
from edgeloop.telemetry.fleet.history import Scope, history_dict, read_history
from edgeloop.telemetry.fleet.models import expected_of, rollout, to_json
from edgeloop.telemetry.overview import WINDOW_REPORTS, describe_models
from edgeloop.telemetry.report import HEADLINE_STAGE, STAGES


def routes(services: Services) -> list[Route]:
    """`/v1/device`, `/v1/history` and `/v1/rollout`."""
    store, fleet = services.store, services.fleet

    def get_device(request: Request) -> Response:
        name = request.query_params.get("name", "")
        recent = store.recent(name, WINDOW_REPORTS)
        if not recent:
            raise HTTPException(404, "no report of this device")
        rows, models = fleet.rows(latency=False), []
        for view in describe_models(recent):
            reason = explain_deviation(view, expected_of(rows, view.bundle, view.delegate_asked))
            models.append({**view.to_dict(), "deviation": asdict(reason)})
        events = arrivals.events_of(store.database, name)
        return JSONResponse({"now_s": time.time(), "device": name, "models": models, "events": events})

    def get_history(request: Request) -> Response:
        query = request.query_params
        try:
            version = int(query["version"]) if "version" in query else None
        except ValueError as error:
            raise DataError(str(error)) from error
        stage = query.get("stage", HEADLINE_STAGE)
        if stage not in STAGES:
            raise DataError(f"no stage {stage[:40]!r}", hint=f"known: {', '.join(STAGES)}")
        scope = Scope(query.get("device"), query.get("bundle"), version)
        found = read_history(store, fleet, scope, query.get("span", "1h"), time.time())
        return JSONResponse(history_dict(found, stage))

    def get_rollout(_request: Request) -> Response:
        now_s = time.time()
        return JSONResponse({"now_s": now_s, "versions": to_json(rollout(fleet.rows(), now_s, fleet.first_seen()))})

    return [Route("/v1/device", get_device), Route("/v1/history", get_history), Route("/v1/rollout", get_rollout)]
