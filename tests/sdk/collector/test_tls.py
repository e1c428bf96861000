"""A collector with TLS: who gets in, with what, and what is said to those who do not."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest

from edgeloop.errors import ConfigError, RefusedError
from edgeloop.telemetry.collector.app import _ENDPOINTS
from edgeloop.telemetry.collector.http_server import Doors
from edgeloop.telemetry.collector.limits import ConnectionLimits, Rate, RequestRates
from edgeloop.telemetry.collector.logs import Log
from edgeloop.telemetry.collector.security import identity
from edgeloop.telemetry.collector.security.access import find_rule
from edgeloop.telemetry.collector.security.authority import Authority
from edgeloop.telemetry.collector.security.security import Security
from edgeloop.telemetry.collector.server import CollectorHandle, start_collector
from edgeloop.telemetry.wire.codec import decode_ack
from support.collecting import batch_of, make_report, wait_until
from support.securing import PASSWORD, Client, prepare_store

CBOR = {"Content_Type": "application/cbor"}


@dataclass
class Secured:
    """A running collector, and what belongs to it."""

    handle: CollectorHandle
    client: Client
    tokens: dict[str, str]
    security: Security
    said: list[str]
    authority: Authority
    folder: Path


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No lookup is remembered."""
    monkeypatch.setattr(identity, "KEPT_S", 0.0)


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    with secured_collector(tmp_path) as made:
        yield made


@contextmanager
def secured_collector(tmp_path: Path, **doors: object) -> Iterator[Secured]:
    url, authority, said = f"sqlite:///{tmp_path}/t.db", Authority.create(tmp_path / "tls", ["127.0.0.1"]), []
    tokens = prepare_store(url)
    log = Log(as_json=True, write=said.append)
    opened = Doors(authority.folder, on_entry=log.audit, **doors)  # type: ignore[arg-type]
    # An address that others reach: what is tested over 127.0.0.1 is the same door.
    with start_collector(url, "0.0.0.0:0", doors=opened, say=log.notice) as handle:
        client = Client(handle.url, authority.ca_path)
        yield Secured(handle, client, tokens, Security.over(handle.store.database), said, authority, tmp_path)


def test_a_device_with_a_certificate_reports_in_its_own_name_only(secured: Secured) -> None:
    device = secured.client.enroll(secured.tokens["enroll"], "pi-1", secured.folder)
    status, _headers, body = device.ask("POST", "/v1/reports", batch_of(make_report(1), make_report(2)), **CBOR)
    assert (status, decode_ack(body).accepted[0][1:]) == (200, (1, 2))
    status, _headers, body = device.ask("POST", "/v1/reports", batch_of(make_report(1, device="pi-2")), **CBOR)
    ack = decode_ack(body)
    assert (status, ack.accepted) == (200, ())
    assert "another device" in ack.rejected[0].reason
    assert device.ask("GET", "/v1/devices")[0] == 403
    assert secured.security.registry.get("pi-1").group == "lab"


def test_a_bearer_does_the_same_without_a_certificate(secured: Secured) -> None:
    from edgeloop.telemetry.collector.security.secrets import DEVICE, Secret

    secret = Secret.make(DEVICE)
    wanted = {"device": "pi-1", "bearer_sha256": secret.hash}
    said = secured.client.post_json("/v1/enroll", wanted, Authorization=f"Bearer {secured.tokens['enroll']}")
    assert said[0] == 200 and said[1]["certificate"] == ""
    own = {"Authorization": f"Bearer {secret.text}", **CBOR}
    assert secured.client.ask("POST", "/v1/reports", batch_of(make_report(1)), **own)[0] == 200
    secured.security.registry.revoke(["pi-1"], "test")
    assert secured.client.ask("POST", "/v1/reports", batch_of(make_report(2)), **own)[0] == 401


def test_strangers_get_in_nowhere(secured: Secured) -> None:
    for method, path in (("GET", "/v1/devices"), ("GET", "/metrics"), ("POST", "/v1/reports"), ("GET", "/page.css"),
                         ("GET", "/nowhere"), ("POST", "/v1/renew"), ("DELETE", "/v1/devices")):  # fmt: skip
        status, headers, _body = secured.client.ask(method, path)
        assert (status, headers.get("www-authenticate")) == (401, "Bearer"), path
    for token in (
        "",
        "x",
        "x" * 5000,
        secured.tokens["enroll"],
        secured.tokens["api"].swapcase(),
        "eld-0123456789-" + "A" * 43,
    ):
        assert secured.client.ask("GET", "/v1/devices", Authorization=f"Bearer {token}")[0] == 401
        assert secured.client.ask("GET", "/v1/devices", Cookie=f"{identity.COOKIE}={token}")[0] == 401
    assert secured.client.ask("GET", "/")[1]["location"] == "/login"
    assert secured.client.ask("GET", "/healthz")[0] == secured.client.ask("GET", "/readyz")[0] == 200


def test_scripts_and_prometheus_have_tokens(secured: Secured) -> None:
    for name in ("api", "root"):
        own = {"Authorization": f"Bearer {secured.tokens[name]}"}
        status, _headers, body = secured.client.ask("GET", "/metrics", **own)
        assert status == 200 and b"edgeloop_collector" in body
        assert secured.client.ask("POST", "/v1/reports", batch_of(make_report(1)), **own, **CBOR)[0] == 403
    assert secured.client.ask("POST", "/v1/anything", Authorization=f"Bearer {secured.tokens['api']}")[0] == 403
    assert secured.client.ask("POST", "/v1/anything", Authorization=f"Bearer {secured.tokens['root']}")[0] == 404


def log_in(client: Client, name: str, password: str = PASSWORD, **headers: str) -> tuple[int, dict[str, str]]:
    origin = {"Origin": client.url, "Content_Type": "application/x-www-form-urlencoded", **headers}
    status, said, _body = client.ask("POST", "/login", urlencode({"name": name, "password": password}), **origin)
    return status, said


def test_people_log_in_and_out(secured: Secured) -> None:
    status, headers, form = secured.client.ask("GET", "/login")
    assert status == 200 and b"<form" in form and "form-action 'self'" in headers["content-security-policy"]
    assert log_in(secured.client, "ann", "wrong")[0] == 401 == log_in(secured.client, "nobody")[0]
    status, headers = log_in(secured.client, "ann")
    assert (status, headers["location"]) == (303, "/")
    cookie, *flags = headers["set-cookie"].split("; ")
    assert {"HttpOnly", "Secure", "SameSite=Strict", "Path=/"} <= set(flags)
    assert secured.client.ask("GET", "/", Cookie=cookie)[0] == 200
    assert secured.client.ask("GET", "/v1/devices", Cookie=cookie)[0] == 200
    # A page elsewhere makes the browser send the cookie, but cannot say that it is the collector's own.
    for forged in ({}, {"Origin": "https://evil.example"}, {"Sec_Fetch_Site": "cross-site"}, {"Origin": "null"}):
        assert secured.client.ask("POST", "/logout", Cookie=cookie, **forged)[0] == 403
    own = {"X_Edgeloop_Request": "1"}
    assert secured.client.ask("POST", "/logout", Cookie=cookie, **own)[1]["location"] == "/login"
    assert secured.client.ask("GET", "/v1/devices", Cookie=cookie)[0] == 401
    assert [e.action for e in secured.security.audit.entries(action="log")] == [
        "login.failed", "login.failed", "login", "logout",
    ]  # fmt: skip


def test_a_viewer_looks_and_an_operator_does(secured: Secured) -> None:
    for name, status in (("vic", 403), ("ann", 404)):
        cookie = log_in(secured.client, name)[1]["set-cookie"].partition(";")[0]
        own = {"Cookie": cookie, "Sec_Fetch_Site": "same-origin"}
        assert secured.client.ask("POST", "/v1/anything", **own)[0] == status
        assert secured.client.ask("GET", "/v1/devices", **own)[0] == 200


def test_a_login_form_from_elsewhere_and_too_many_tries_are_refused(tmp_path: Path) -> None:
    with secured_collector(tmp_path, rates=RequestRates(tries=Rate(per_s=0.01, burst=3.0))) as secured:
        assert log_in(secured.client, "ann", Origin="https://evil.example")[0] == 403
        statuses = [log_in(secured.client, "ann", "wrong")[0] for _ in range(4)]
        assert statuses == [401, 401, 401, 429]
        assert int(log_in(secured.client, "ann")[1]["retry-after"]) > 1
        wanted = {"device": "a", "bearer_sha256": "0" * 64}
        enroll = [secured.client.post_json("/v1/enroll", wanted)[0] for _ in range(3)]
        assert enroll == [403] * 3
        assert secured.client.ask("POST", "/v1/enroll")[0] == 429


def test_who_sends_too_often_is_told_to_wait(tmp_path: Path) -> None:
    with secured_collector(tmp_path, rates=RequestRates(device=Rate(per_s=0.5, burst=2.0))) as secured:
        device = secured.client.enroll(secured.tokens["enroll"], "pi-1", tmp_path)
        answers = [device.ask("POST", "/v1/reports", batch_of(make_report(n)), **CBOR) for n in (1, 2, 3)]
        assert [status for status, _headers, _body in answers] == [200, 200, 429]
        assert 1 <= int(answers[2][1]["retry-after"]) <= 2
        metrics = secured.client.ask("GET", "/metrics", Authorization=f"Bearer {secured.tokens['api']}")[2].decode()
        assert "edgeloop_collector_requests_limited_total 1" in metrics
        assert sum("too often" in line for line in secured.said) == 1


def test_a_revoked_device_a_stolen_token_and_a_wrong_ca(secured: Secured, tmp_path: Path) -> None:
    device = secured.client.enroll(secured.tokens["enroll"], "pi-1", tmp_path)
    secured.security.registry.revoke(["pi-1"], "test")
    status, _headers, body = device.ask("POST", "/v1/reports", batch_of(make_report(1)), **CBOR)
    assert status == 401 and "revoked" in json.loads(body)["error"]
    once = secured.security.create_token("enroll", "test", uses=1)
    secured.client.enroll(once.text, "thief", tmp_path)
    said = secured.client.post_json(
        "/v1/enroll", {"device": "owner", "bearer_sha256": "0" * 64}, Authorization=f"Bearer {once.text}"
    )
    assert said[0] == 403 and "used up" in said[1]["error"]
    taken = secured.client.post_json(
        "/v1/enroll", {"device": "thief", "bearer_sha256": "0" * 64},
        Authorization=f"Bearer {secured.tokens['enroll']}",
    )  # fmt: skip
    assert taken[0] == 409 and "token create --device thief" in taken[1]["hint"]
    other = Authority.create(tmp_path / "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        Client(secured.handle.url, other.ca_path).ask("GET", "/healthz")
    foreign = Client(secured.handle.url, secured.authority.ca_path, other.server_path)
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        foreign.ask("GET", "/healthz")
    wait_until(lambda: any("refused a client certificate" in line for line in secured.said), "said by the collector")
    everything = "\n".join(secured.said)
    assert all(json.loads(line)["event"] for line in secured.said)
    for secret in (*secured.tokens.values(), once.text, PASSWORD):
        assert secret not in everything


def test_a_certificate_of_the_ca_that_was_never_registered_is_nobody(secured: Secured, tmp_path: Path) -> None:
    server = Client(secured.handle.url, secured.authority.ca_path, secured.authority.server_path)
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        server.ask("GET", "/healthz")  # it is for servers
    device = secured.client.enroll(secured.tokens["enroll"], "pi-1", tmp_path)
    secured.security.registry.remove(["pi-1"], "test")
    assert device.ask("POST", "/v1/reports", batch_of(make_report(1)), **CBOR)[0] == 401


def test_plain_http_on_the_tls_port_and_old_tls_are_said(secured: Secured) -> None:
    port = int(secured.handle.url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        connection.request("GET", "/healthz")
        connection.getresponse()
    wait_until(lambda: any("plain HTTP" in line for line in secured.said), "said by the collector")
    context = ssl.create_default_context(cafile=str(secured.authority.ca_path))
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", port)) as raw, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(raw, server_hostname="127.0.0.1")


def test_a_renewed_certificate_is_used_without_a_restart(secured: Secured) -> None:
    def serial() -> str:
        context = ssl.create_default_context(cafile=str(secured.authority.ca_path))
        port = int(secured.handle.url.rpartition(":")[2])
        raw = socket.create_connection(("127.0.0.1", port))
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as wrapped:
            return str((wrapped.getpeercert() or {})["serialNumber"])

    before = serial()
    assert serial() == before
    secured.authority.renew()
    assert serial() != before
    good = serial()
    secured.authority.server_path.write_text("nonsense")
    assert serial() == good, "a bad one is not used"
    assert any("not used" in line for line in secured.said)


def test_an_expired_certificate_does_not_start(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "tls", ["127.0.0.1"])
    prepare_store(f"sqlite:///{tmp_path}/t.db")
    authority.renew(days=-1)
    with pytest.raises(ConfigError, match="expired") as caught:
        start_collector(f"sqlite:///{tmp_path}/t.db", doors=Doors(authority.folder))
    assert "--renew" in str(caught.value.hint)


def test_nobody_to_let_in_is_refused(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "tls")
    with pytest.raises(RefusedError, match="no user, no token") as caught:
        start_collector(f"sqlite:///{tmp_path}/t.db", "0.0.0.0:0", doors=Doors(authority.folder))
    assert "user add" in str(caught.value.hint)


def test_groups_and_tags_are_filters(secured: Secured) -> None:
    for name, token in (
        ("pi-1", secured.tokens["enroll"]),
        ("pi-2", secured.security.create_token("enroll", "t").text),
    ):
        device = secured.client.enroll(token, name, secured.folder)
        assert device.ask("POST", "/v1/reports", batch_of(make_report(1, device=name)), **CBOR)[0] == 200

    def names(query: str) -> list[str]:
        own = {"Authorization": f"Bearer {secured.tokens['api']}"}
        return [d["device"] for d in json.loads(secured.client.ask("GET", f"/v1/devices{query}", **own)[2])["devices"]]

    assert names("") == ["pi-1", "pi-2"]
    assert names("?group=lab") == names("?tag=site:berlin") == names("?group=lab&tag=site:berlin") == ["pi-1"]
    assert names("?group=lab&tag=site:paris") == names("?group=none") == []


def test_what_an_operator_changes_is_in_the_audit_log(secured: Secured) -> None:
    own = {"Authorization": f"Bearer {secured.tokens['root']}"}
    assert secured.client.ask("DELETE", "/v1/samples?device=pi-1", **own)[0] == 200
    assert secured.client.ask("DELETE", "/v1/samples?nonsense=1", **own)[0] == 400
    found = secured.security.audit.entries(action="http")
    assert [(e.who, e.action, e.subject, e.origin) for e in found] == [
        ("api script", "http.delete", "/v1/samples", "127.0.0.1")
    ]


def test_every_endpoint_has_a_role(secured: Secured) -> None:
    """Who adds an endpoint says in security/access.py who may call it."""
    app = secured.handle.http._server.config.app
    assert len(app.routes) > 10 and len(_ENDPOINTS) > 5
    asked = [(method, route.path) for route in app.routes for method in route.methods]
    missing = [each for each in asked if find_rule(*each) is None]
    assert missing == []


def test_slow_clients_and_too_many_connections_are_cut_off(tmp_path: Path) -> None:
    with secured_collector(tmp_path, connections=ConnectionLimits(count=3, request_s=0.3, handshake_s=0.4)) as secured:
        port = int(secured.handle.url.rpartition(":")[2])
        context = ssl.create_default_context(cafile=str(secured.authority.ca_path))
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1") as slow:
            began_s = time.monotonic()
            slow.sendall(b"POST /v1/reports HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
            slow.settimeout(60)
            answer = b"x"
            with pytest.raises(OSError):
                while answer:
                    answer = slow.recv(1000)
                raise ConnectionResetError
            assert time.monotonic() - began_s < 60
        with socket.create_connection(("127.0.0.1", port)) as silent:  # and never begins its handshake
            silent.settimeout(60)
            assert silent.recv(1) == b""
        lines = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        wrapped = [context.wrap_socket(line, server_hostname="127.0.0.1") for line in lines]
        with pytest.raises((OSError, http.client.HTTPException)):
            secured.client.ask("GET", "/healthz")
        for line in wrapped:
            line.close()
        wait_until(lambda: sum("cut off" in line or "too many" in line for line in secured.said) == 2, "both said once")


def test_huge_headers_are_refused(secured: Secured) -> None:
    assert secured.client.ask("GET", "/healthz", X_Large="a" * 40_000)[0] in (400, 431)
    assert secured.client.ask("POST", "/v1/enroll", b"[" * 20_000)[0] == 413
    assert secured.client.ask("POST", "/v1/enroll", b"[" * 10_000)[0] == 400
