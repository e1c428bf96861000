"""The device's side against a collector with TLS: enroll, report, renew; and what it says when that fails."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from edgeloop.devices.commanding.through_collector import ThroughCollector
from edgeloop.errors import ConfigError, DeviceError, RefusedError, UsageError
from edgeloop.telemetry.collector.http_server import Doors
from edgeloop.telemetry.collector.limits import Rate, RequestRates
from edgeloop.telemetry.collector.security import certificates, tls
from edgeloop.telemetry.collector.security import identity as lookups
from edgeloop.telemetry.collector.security.authority import Authority
from edgeloop.telemetry.collector.security.secrets import API
from edgeloop.telemetry.collector.security.security import Security
from edgeloop.telemetry.collector.server import CollectorHandle, start_collector
from edgeloop.telemetry.delivery.courier import Courier
from edgeloop.telemetry.identity.kept import IdentityFolder
from edgeloop.telemetry.reading.remote import CollectorClient
from edgeloop.telemetry.spool.spool import Spool
from edgeloop.telemetry.transports import NotAcknowledgedError, Transport, open_transport
from edgeloop.telemetry.wire.codec import encode_report
from edgeloop_agent.cli import main as agent_main
from support.collecting import make_report
from support.securing import prepare_store


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "KEPT_S", 0.0)


class Field:
    """A collector with its CA, and devices' state folders beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store_url = folder, f"sqlite:///{folder}/t.db"
        self.authority = Authority.create(folder / "tls", ["127.0.0.1"])
        self.token = prepare_store(self.store_url)["enroll"]
        self.rates = RequestRates()
        self.start()

    def start(self, listen: str = "0.0.0.0:0") -> None:
        self.handle: CollectorHandle = start_collector(
            self.store_url, listen, doors=Doors(self.authority.folder, rates=self.rates)
        )
        self.security = Security.over(self.handle.store.database)
        self.url = f"{self.handle.url}?ca={self.authority.ca_path}"

    def device(self, name: str = "pi-1", *, bearer: bool = False, token: str = "") -> tuple[Transport, IdentityFolder]:
        kept = IdentityFolder(self.folder / name)
        kept.plant(token or self.token, name, bearer=bearer)
        return open_transport(self.url, state=kept.state), kept


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    made = Field(tmp_path)
    yield made
    made.handle.stop()


def send(transport: Transport, seq: int = 1, device: str = "pi-1") -> int:
    return len(transport.send([encode_report(make_report(seq, device=device))]).accepted)


@pytest.mark.parametrize("bearer", [False, True])
def test_the_first_batch_enrolls_and_reports(field: Field, bearer: bool) -> None:
    transport, kept = field.device(bearer=bearer)
    assert send(transport) == 1
    identity = kept.identity()
    assert identity is not None and kept.pending() is None
    assert (identity.device, identity.kind) == ("pi-1", "bearer" if bearer else "certificate")
    assert kept.path.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in kept.path.iterdir()} == {0o600}
    again = open_transport(field.url, state=kept.state)
    assert send(again, 2) == 1
    if not bearer:
        named = open_transport(f"{field.url}&cert={kept.client_path}")
        assert send(named, 3) == 1
    assert field.token not in "".join(path.read_text() for path in kept.path.iterdir())


@pytest.mark.parametrize("bearer", [False, True])
def test_a_credential_is_renewed_before_it_ends(field: Field, bearer: bool) -> None:
    transport, kept = field.device(bearer=bearer)
    send(transport)
    before = kept.identity()
    assert before is not None and before.expires_s is not None and not before.is_due(time.time())
    assert before.is_due(before.expires_s - 29 * 86400) and not before.is_due(before.expires_s - 31 * 86400)
    first = field.security.registry.get("pi-1").credential
    kept.keep(replace(before, issued_s=before.expires_s - 2 * 90 * 86400 - 1, expires_s=time.time() + 3600))
    assert send(transport, 2) == 1
    after = kept.identity()
    assert after is not None and after.expires_s is not None and after.expires_s > time.time() + 80 * 86400
    assert field.security.registry.get("pi-1").credential != first, "the new one is in use"
    assert send(open_transport(field.url, state=kept.state), 3) == 1


def test_a_lost_answer_to_an_enrollment_does_no_harm(field: Field) -> None:
    once = field.security.create_token("enroll", "test", uses=1).text
    transport, kept = field.device(token=once)
    pending = kept.pending()
    assert pending is not None
    from edgeloop.telemetry.collector.security.enrollment import Wanted

    field_enrollment = Security.over(field.handle.store.database, field.authority.folder).enrollment
    field_enrollment.enroll(once, "pi-1", Wanted.parse(pending.wanted()), "lost")
    assert send(transport) == 1


def test_what_the_collector_says_no_to(field: Field) -> None:
    transport, _kept = field.device()
    send(transport)
    taken, _kept = field.device("other")
    IdentityFolder(field.folder / "other").plant(field.token, "pi-1")
    with pytest.raises(NotAcknowledgedError, match="already") as caught:
        send(taken)
    assert "token create --device pi-1" in str(caught.value.hint)
    field.security.registry.revoke(["pi-1"], "test")
    with pytest.raises(NotAcknowledgedError, match="revoked") as caught:
        send(transport, 2)
    assert not caught.value.blames_batch and "enroll" in str(caught.value.hint)
    used = field.security.create_token("enroll", "test", uses=1).text
    send(field.device("thief", token=used)[0], device="thief")
    with pytest.raises(NotAcknowledgedError, match="used up") as caught:
        send(field.device("owner", token=used)[0])
    assert used not in str(caught.value)
    nobody = open_transport(field.url, state=field.folder / "nobody")
    with pytest.raises(NotAcknowledgedError, match="401"):
        send(nobody)


def test_a_credential_is_shown_to_its_own_collector_only(field: Field) -> None:
    transport, kept = field.device(bearer=True)
    send(transport)
    found = kept.identity()
    assert found is not None
    kept.keep(replace(found, url="https://elsewhere:8443"))
    with pytest.raises(NotAcknowledgedError, match="who are you"):
        send(open_transport(field.url, state=kept.state))


def test_certificates_that_are_no_good_are_one_line_with_a_next_step(field: Field, tmp_path: Path) -> None:
    transport, _kept = field.device()
    transport.close()
    other = Authority.create(tmp_path / "other")
    with pytest.raises(NotAcknowledgedError, match="certificate was refused") as caught:
        send(open_transport(f"{field.handle.url}?ca={other.ca_path}"))
    assert "ca=FILE" in str(caught.value.hint)
    with pytest.raises(NotAcknowledgedError, match="another name") as caught:
        send(open_transport(field.url.replace("127.0.0.1", "127.0.0.2")))
    assert "--host" in str(caught.value.hint)
    with pytest.raises(NotAcknowledgedError) as caught:
        send(open_transport(field.handle.url.replace("https", "http")))
    assert "https://" in str(caught.value.hint)
    plain = start_collector(f"sqlite:///{tmp_path}/plain.db")
    with pytest.raises(NotAcknowledgedError, match="does not speak TLS"):
        send(open_transport(plain.url.replace("http", "https")))
    plain.stop()


def test_who_reads_with_the_wrong_scheme_ca_or_token_is_told_the_next_step(
    field: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hint_of(url: str, expected: type[Exception] = DeviceError, path: str = "/v1/devices") -> str:
        with pytest.raises(expected) as caught:
            CollectorClient(url).get(path, method="DELETE" if path != "/v1/devices" else "GET")
        return str(getattr(caught.value, "hint", ""))

    assert "https://" in hint_of(field.handle.url.replace("https", "http"))
    with start_collector(f"sqlite:///{tmp_path}/plain.db") as plain:
        assert "http://" in hint_of(plain.url.replace("http", "https"))
    assert hint_of("http://127.0.0.1:1") == "is `edgeloop collect` running?"
    with pytest.raises(DeviceError) as caught:
        ThroughCollector("http://127.0.0.1:1", "pi-1").start()
    assert "--collector" in str(caught.value.hint)
    assert "EDGELOOP_TOKEN" in hint_of(field.url, RefusedError)
    token = field.security.create_token(API, "ana", subject="prom", role="viewer", lasts_s=60.0)
    monkeypatch.setenv("EDGELOOP_TOKEN", token.text)
    assert "operator" in hint_of(field.url, RefusedError, "/v1/samples/x")


def test_enroll_says_how_a_ca_is_given_there_and_that_too_many_tried(
    field: Field, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def enroll(*more: str) -> str:
        assert agent_main(["enroll", field.handle.url, "--token", "elt-wrong", "--state", str(tmp_path), *more]) != 0
        return capsys.readouterr().err

    assert "--ca FILE" in enroll()
    said = [enroll("--ca", str(field.authority.ca_path)) for _ in range(12)]
    assert "too many tries" in said[-1] and "429" not in said[-1]


def test_a_collector_whose_certificate_expired_while_it_ran(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "check_certificate", lambda *_: None)
    field.authority.renew(days=-1)
    with pytest.raises(NotAcknowledgedError, match="has expired") as caught:
        send(open_transport(field.url))
    assert "--renew" in str(caught.value.hint)


def test_a_device_whose_clock_is_before_the_certificate(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one without a battery: for the handshake it is the same whether the clock is slow or the certificate new."""
    monkeypatch.setattr(tls, "check_certificate", lambda *_: None)
    monkeypatch.setattr(certificates, "_SKEW", -timedelta(days=2))
    field.authority.renew()
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((1970, 1, 1, 0, 0, 5, 3, 1, 0)))
    with pytest.raises(NotAcknowledgedError, match="not valid yet: this device's clock says 1970-01-01") as caught:
        send(open_transport(field.url))
    assert "set the clock" in str(caught.value.hint)


def test_an_expired_client_certificate_is_said_on_both_sides(field: Field) -> None:
    transport, kept = field.device()
    send(transport)
    transport.close()
    csr = IdentityFolder(field.folder / "x").plant("t", "pi-1").csr
    key = IdentityFolder(field.folder / "x").pending()
    assert key is not None
    old, _facts = field.authority.sign_device("pi-1", csr, days=-1)
    identity = kept.identity()
    assert identity is not None
    kept.keep(identity, key.key + old)
    with pytest.raises(NotAcknowledgedError) as caught:
        send(open_transport(field.url, state=kept.state), 2)
    assert re.search(
        r"refused this device's certificate: certificate expired|ended the TLS|not reachable", caught.value.message
    )


def test_a_device_that_is_told_to_wait_waits(tmp_path: Path) -> None:
    field = Field(tmp_path)
    field.handle.stop()
    field.rates = RequestRates(device=Rate(per_s=0.1, burst=1.0))
    field.start()
    transport, _kept = field.device()
    spool = Spool(tmp_path / "spool.db")
    with contextlib.closing(spool):
        courier = Courier(spool, transport)
        for seq in (1, 2):
            spool.put(encode_report(make_report(seq)), make_report(seq).boot, seq)
            outcome = courier.deliver()
        assert isinstance(outcome.error, NotAcknowledgedError) and "429" in outcome.error.message
        assert 5 < courier.delay_s <= 10
    field.handle.stop()


@pytest.mark.parametrize(("query", "words"), [
    ("cert=/nowhere", "cannot be used"), ("key=/nowhere", "no certificate"), ("ca=/nowhere", "cannot be used"),
    ("token=elt-abc", "unknown option"),
])  # fmt: skip
def test_urls_that_are_wrong(query: str, words: str) -> None:
    with pytest.raises((UsageError, ConfigError), match=words) as caught:
        open_transport(f"https://c:8443?{query}")
    assert "elt-abc" not in caught.value.message or words == "unknown option"


def test_a_damaged_identity_is_one_line(tmp_path: Path) -> None:
    kept = IdentityFolder(tmp_path)
    kept.plant("t", "pi-1")
    (kept.path / "identity.json").write_text("[]")
    with pytest.raises(ConfigError, match="damaged"):
        open_transport("https://c:8443", state=tmp_path)
    (kept.path / "identity.json").write_text(json.dumps({"url": "x"}))
    with pytest.raises(ConfigError, match="damaged"):
        open_transport("https://c:8443", state=tmp_path)
