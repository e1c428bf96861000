"""Live views end with their users, and are so many at most."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from edgeloop.telemetry.collector import CollectorHandle, start_collector
from edgeloop.telemetry.collector.http_server import Doors
from edgeloop.telemetry.collector.routes.stream import MAX_VIEWERS, MAX_VIEWERS_EACH, Viewers
from edgeloop.telemetry.collector.security.authority import Authority
from edgeloop.telemetry.collector.security.security import Security
from edgeloop.telemetry.simulation.simulate import Simulation, simulate
from support.securing import prepare_store


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[tuple[CollectorHandle, dict[str, str], ssl.SSLContext]]:
    url, authority = f"sqlite:///{tmp_path}/t.db", Authority.create(tmp_path / "tls", ["127.0.0.1"])
    tokens = prepare_store(url)
    with start_collector(url, doors=Doors(authority.folder)) as collector:
        yield collector, tokens, ssl.create_default_context(cafile=authority.ca_path)


def open_stream(url: str, token: str, context: ssl.SSLContext) -> http.client.HTTPResponse:
    parts = urlsplit(url)
    connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=60, context=context)
    connection.request("GET", "/v1/stream", headers={"Authorization": f"Bearer {token}"})
    return connection.getresponse()


def test_a_stream_ends_soon_after_its_token(
    secured: tuple[CollectorHandle, dict[str, str], ssl.SSLContext],
) -> None:
    collector, tokens, context = secured
    ends, stays = (open_stream(collector.url, tokens[name], context) for name in ("api", "root"))
    assert ends.readline() == stays.readline() == b"retry: 1000\n"
    Security.over(collector.store.database).revoke_token(tokens["api"].split("-")[1], "ann")
    began_s = time.monotonic()
    while ends.readline():
        assert time.monotonic() - began_s < 60
    assert stays.readline() is not None
    assert not stays.isclosed()


def test_one_caller_has_a_bounded_number_and_an_ended_one_counts_no_more(
    secured: tuple[CollectorHandle, dict[str, str], ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeloop.telemetry.collector.routes.stream.MAX_VIEWERS_EACH", 2)
    collector, tokens, context = secured
    streams = [open_stream(collector.url, tokens["api"], context) for _ in range(3)]
    assert [each.status for each in streams] == [200, 200, 503]
    assert open_stream(collector.url, tokens["root"], context).status == 200
    streams[0].close()
    deadline_s = time.monotonic() + 60
    while open_stream(collector.url, tokens["api"], context).status != 200:
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def test_all_callers_together_have_a_bounded_number_too() -> None:
    viewers = Viewers()
    entered = [viewers.enter(f"user {n}") for n in range(MAX_VIEWERS + 1)]
    assert entered == [True] * MAX_VIEWERS + [False]
    viewers.leave("user 0")
    assert "user 0" not in viewers.open
    assert viewers.enter("user 1")
    assert MAX_VIEWERS_EACH < MAX_VIEWERS


def test_simulated_devices_enroll_where_a_collector_asks_who_they_are(
    secured: tuple[CollectorHandle, dict[str, str], ssl.SSLContext], tmp_path: Path
) -> None:
    collector, tokens, _context = secured
    url = f"{collector.url}?ca={tmp_path / 'tls' / 'ca.pem'}"
    plan = Simulation(devices=5, reports=2, interval_s=0.0, enroll_token=tokens["enroll"])
    assert tokens["enroll"] not in repr(plan)
    result = simulate(url, plan)
    assert (result.acknowledged, result.rejected) == (10, 0)
    assert len(Security.over(collector.store.database).registry.list("lab")) == 5
