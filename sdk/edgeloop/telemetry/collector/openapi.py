"""The HTTP API as OpenAPI 3.1, made from one table of endpoints. Who may call what comes from `security.access`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeloop.telemetry.collector.security.access import PUBLIC, role_for
from edgeloop.telemetry.wire.codec import MAX_BATCH_BYTES
from edgeloop.version import VERSION

JSON, CBOR, TEXT, EVENTS = "application/json", "application/cbor", "text/plain", "text/event-stream"
_TEXT_VALUE: Mapping[str, Any] = {"type": "string"}
_WHOLE: Mapping[str, Any] = {"type": "integer"}
_NUMBER: Mapping[str, Any] = {"type": "number"}
_BYTES: Mapping[str, Any] = {"type": "string", "format": "binary"}
_CHOICE = {"device": _TEXT_VALUE, "boot": _TEXT_VALUE, "bundle": _TEXT_VALUE, "version": _WHOLE,
           "variant": _TEXT_VALUE, "delegate": _TEXT_VALUE, "since_s": _NUMBER, "until_s": _NUMBER}  # fmt: skip
_MEMBERS = {"group": _TEXT_VALUE, "tag": _TEXT_VALUE}
_TABLE = {"search": _TEXT_VALUE, "only": _TEXT_VALUE, "order": _TEXT_VALUE, "descending": _TEXT_VALUE,
          "offset": _WHOLE, "limit": _WHOLE, "bundle": _TEXT_VALUE, "version": _WHOLE}  # fmt: skip
_SAMPLES = {"device": _TEXT_VALUE, "bundle": _TEXT_VALUE, "version": _WHOLE, "reason": _TEXT_VALUE,
            "sha256": _TEXT_VALUE}  # fmt: skip
_CREDENTIAL = {
    "type": "object",
    "properties": {
        "csr": {"type": "string", "description": "a certificate signing request (PEM) of an Ed25519 or P-256 key"},
        "bearer_sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256 of the own secret"},
    },
}
_ENROLLMENT = {
    **_CREDENTIAL,
    "properties": {"device": {"type": "string", "minLength": 1, "maxLength": 120}, **_CREDENTIAL["properties"]},  # type: ignore[dict-item]
    "required": ["device"],
}


@dataclass(frozen=True)
class Endpoint:
    """One method of one path. query: name -> schema. body: (content type, schema). gives: content type of the answer.

    answers: the statuses besides what every endpoint may answer.
    """

    method: str
    path: str
    summary: str
    gives: str = JSON
    query: Mapping[str, Mapping[str, Any]] | None = None
    body: tuple[str, Mapping[str, Any]] | None = None
    answers: Sequence[int] = (200,)


ENDPOINTS: Sequence[Endpoint] = (
    Endpoint(
        "POST", "/v1/reports", f"a batch of reports, {MAX_BATCH_BYTES} bytes at most; answered after its commit",
        gives=CBOR, body=(CBOR, _BYTES), answers=(200, 413, 415),
    ),
    Endpoint("POST", "/v1/carried", "a batch of any device's reports, as a stick brought it; answered after its commit",
             gives=CBOR, body=(CBOR, _BYTES), answers=(200, 413, 415)),
    Endpoint("POST", "/v1/enroll", "a device gets its credential for a token", body=(JSON, _ENROLLMENT),
             answers=(200, 409, 413)),
    Endpoint("POST", "/v1/renew", "a device gets a new credential", body=(JSON, _CREDENTIAL), answers=(200, 409, 413)),
    Endpoint("GET", "/v1/devices", "devices as last reported, 1000 a page; `next` is the next one's `after`",
             query={**_MEMBERS, "after": _TEXT_VALUE}),
    Endpoint("GET", "/v1/latency", "percentiles by stage and by what `by` names",
             query={**_CHOICE, **_MEMBERS, "stage": _TEXT_VALUE, "by": _TEXT_VALUE}),
    Endpoint("GET", "/v1/fleet", "a page of the fleet's table", query=_TABLE),
    Endpoint("GET", "/v1/stream", "the same, live: server-sent events", gives=EVENTS, query=_TABLE),
    Endpoint("GET", "/v1/device", "one device, each of its models", query={"name": _TEXT_VALUE}, answers=(200, 404)),
    Endpoint("GET", "/v1/history", "latency over time",
             query={"device": _TEXT_VALUE, "bundle": _TEXT_VALUE, "version": _WHOLE, "stage": _TEXT_VALUE,
                    "span": _TEXT_VALUE}),
    Endpoint("GET", "/v1/rollout", "which devices run which versions"),
    Endpoint("GET", "/v1/alerts", "rules, and what fires"),
    Endpoint("GET", "/v1/export/reports", "reports as they were sent", gives=CBOR,
             query={**_CHOICE, **_MEMBERS, "after_id": _WHOLE, "limit": _WHOLE}),
    Endpoint("GET", "/v1/export/devices", "the last report of each device", gives=CBOR, query={**_CHOICE, **_MEMBERS}),
    Endpoint("GET", "/v1/export/recent", "the last reports of each device", gives=CBOR,
             query={**_CHOICE, **_MEMBERS, "limit": _WHOLE, "each": _WHOLE}),
    Endpoint("GET", "/v1/export/latency", "merged histograms", gives=CBOR,
             query={**_CHOICE, **_MEMBERS, "by": _TEXT_VALUE}),
    Endpoint("GET", "/v1/export/events", "events of the named kinds", gives=CBOR,
             query={**_CHOICE, **_MEMBERS, "kinds": _TEXT_VALUE, "after_id": _WHOLE}),
    Endpoint("POST", "/v1/samples", "a piece of a hard sample", gives=CBOR, body=(CBOR, _BYTES),
             answers=(200, 413, 415)),
    Endpoint("GET", "/v1/samples", "hard samples that are kept", query=_SAMPLES),
    Endpoint("DELETE", "/v1/samples", "delete those that the query chooses", query=_SAMPLES),
    Endpoint("GET", "/v1/samples/file", "one hard sample", gives="application/octet-stream", query=_SAMPLES,
             answers=(200, 404)),
    Endpoint("GET", "/v1/devices/{device}/commands", "what to know before signing a command", answers=(200, 404)),
    Endpoint("POST", "/v1/devices/{device}/commands", "queue a command that an operator signed", body=(CBOR, _BYTES),
             answers=(202, 404, 413, 415)),
    Endpoint("GET", "/v1/commands/{id}", "what came of a command", query={"wait_s": _NUMBER}, answers=(200, 404)),
    Endpoint("POST", "/v1/devices/{device}/chunks", "pieces of a file for a device on a line", body=(CBOR, _BYTES),
             answers=(200, 404, 413, 415)),
    Endpoint("GET", "/v1/openapi.json", "this description"),
    Endpoint("GET", "/metrics", "Prometheus", gives=TEXT),
    Endpoint("GET", "/healthz", "it lives"),
    Endpoint("GET", "/readyz", "its store takes writes and its backlog is small"),
)  # fmt: skip

_MEANINGS = {
    200: "done", 202: "queued", 400: "the request makes no sense", 401: "say who you are", 403: "not for you",
    404: "there is none", 409: "the name is taken", 413: "too large", 415: "another content type",
    429: "wait for Retry-After seconds", 431: "headers too large", 503: "the store is not available",
}  # fmt: skip
_ANY = (400, 401, 403, 429, 431, 503)


def describe() -> dict[str, Any]:
    """The document."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "edgeloop collector", "version": VERSION},
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "a token of a script or a device"},
                "certificate": {"type": "mutualTLS"},
                "session": {"type": "apiKey", "in": "cookie", "name": "__Host-edgeloop"},
            }
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    role = role_for(endpoint.method, endpoint.path)
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "x-role": role,
        "security": [] if role == PUBLIC else [{"bearer": []}, {"certificate": []}, {"session": []}],
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": _TEXT_VALUE} for name in _names(endpoint.path)),
            *({"name": name, "in": "query", "schema": schema} for name, schema in (endpoint.query or {}).items()),
        ],
        "responses": {str(status): _response(endpoint, status) for status in sorted({*endpoint.answers, *_ANY})},
    }
    if endpoint.body is not None:
        content_type, schema = endpoint.body
        operation["requestBody"] = {"required": True, "content": {content_type: {"schema": schema}}}
    return operation


def _response(endpoint: Endpoint, status: int) -> dict[str, Any]:
    said: dict[str, Any] = {"description": _MEANINGS[status]}
    if status < 400:
        said["content"] = {endpoint.gives: {}}
    return said


def _names(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]
