"""The HTTP API as it is described: every endpoint is, and none answers hostile requests otherwise than it says."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from starlette.routing import Route

from edgeloop.telemetry.collector.openapi import describe
from edgeloop.telemetry.collector.server import CollectorHandle, start_collector
from edgeloop.telemetry.store import open_store
from support.collecting import make_report

schemathesis = pytest.importorskip("schemathesis", reason="pip install 'edgeloop[dev]'")

from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance  # noqa: E402

pytestmark = pytest.mark.slow

_NOT_DESCRIBED = ("/js/", "/vendor/", "/login", "/logout", "/icon.svg")
"""The page and its files."""


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CollectorHandle]:
    url = f"sqlite:///{tmp_path_factory.mktemp('api')}/x.db"
    store = open_store(url)
    store.insert([make_report(seq, device=device) for seq in (1, 2) for device in ("pi-1", "<b>\"'; --")])
    store.close()
    with start_collector(url) as handle:
        yield handle


def test_every_endpoint_is_described(collector: CollectorHandle) -> None:
    routes: list[Route] = collector.http._server.config.app.routes
    found = {
        (method.lower(), route.path)
        for route in routes
        for method in (route.methods or set()) - {"HEAD"}
        if not route.path.startswith(_NOT_DESCRIBED) and route.path != "/" and not route.path.endswith(".css")
    }
    described = {(method, path) for path, methods in describe()["paths"].items() for method in methods}
    assert found == described
    json.dumps(describe())


@schemathesis.serializer("application/cbor")
def as_cbor(_context: Any, value: Any) -> bytes:
    """Bytes as they are: hostile ones. Anything else as CBOR of the wrong kind."""
    return value if isinstance(value, bytes) else cbor2.dumps(getattr(value, "data", value))


OPERATIONS = [
    (method, path) for path, methods in describe()["paths"].items() for method in methods if path != "/v1/stream"
]
"""That one does not end."""


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_request_is_answered_otherwise_than_described(collector: CollectorHandle, method: str, path: str) -> None:
    """Also: never 5xx. Made by schemathesis, valid requests and others."""
    operation = schemathesis.openapi.from_dict(describe())[path][method]
    modes = schemathesis.GenerationMode
    valid, invalid = (operation.as_strategy(generation_mode=mode) for mode in (modes.POSITIVE, modes.NEGATIVE))
    checks = [not_a_server_error, status_code_conformance, content_type_conformance]

    @settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=valid | invalid)
    def ask(case: Any) -> None:
        case.call_and_validate(base_url=collector.url, timeout=60, checks=checks)

    ask()


HOSTILE = [
    "", "%00", "a%00b", "%ff%fe", "%F0%9F%92%A9", "%ED%A0%80", "'; DROP TABLE reports; --", "%22%3E%3Cscript%3E",
    "-1", "9" * 30, "-" + "9" * 30, "1e999", "nan", "inf", "0x10", "1_000", "%D9%A3", "../../etc/passwd", "%25s%25n",
    "A" * 4000, "a,b,c", ",", "null", "true", "{}", "[]", "a=b", "=", ":", "true", "%0d%0aSet-Cookie:x=1",
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_hostile_parameters_are_answered_in_order(collector: CollectorHandle, method: str, path: str) -> None:
    described = describe()["paths"][path][method]
    expected = {int(status) for status in described["responses"]}
    parts = urlsplit(collector.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    with contextlib.closing(connection):
        parameters = [each["name"] for each in described["parameters"]] or ["unknown"]
        some = 3 if len(parameters) > 3 else 1  # a third for each of many: the next one takes the next third
        for position, parameter in enumerate(parameters):
            for value in HOSTILE[position % some :: some]:
                at = path.replace(f"{{{parameter}}}", value.replace("/", "%2F") or "x")
                at = at if at != path else f"{path}?{parameter}={value.replace(' ', '%20')}"
                connection.request(method.upper(), at.replace(" ", "%20"), headers={"Content-Type": "application/cbor"})
                answer = connection.getresponse()
                body = answer.read()
                assert answer.status in expected, (method, at, answer.status, body[:200])
                assert answer.getheader("Set-Cookie") is None


def test_nothing_was_lost_to_it(collector: CollectorHandle) -> None:
    """Last: the reports are still there."""
    assert collector.store.counts().reports == 4
