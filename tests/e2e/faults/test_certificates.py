"""A certificate that expires while everything runs: reports wait, it is said, they arrive once when it is renewed."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeloop.telemetry.collector import start_collector
from edgeloop.telemetry.collector.http_server import Doors
from edgeloop.telemetry.collector.security import tls
from edgeloop.telemetry.collector.security.authority import Authority
from edgeloop.telemetry.spool.memory import MemorySpool
from edgeloop.telemetry.transports import open_transport
from support.faults import amount, judge, record
from support.reporter import Reporter
from support.securing import Client, prepare_store


def test_the_collectors_certificate_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = amount(2, 20)
    url, authority = f"sqlite:///{tmp_path}/t.db", Authority.create(tmp_path / "tls", ["127.0.0.1"])
    tokens = prepare_store(url)
    said: list[str] = []
    with start_collector(url, "0.0.0.0:0", doors=Doors(authority.folder), say=said.append) as collector:
        enrolled = Client(collector.url, authority.ca_path).enroll(tokens["enroll"], "pi-1", tmp_path)
        # It would not take up one that is expired already: here the one that it has expires.
        monkeypatch.setattr(tls, "check_certificate", lambda *_args: None)
        port = collector.url.rpartition(":")[2]
        way = f"https://127.0.0.1:{port}?ca={authority.ca_path}&cert={enrolled.certificate}"
        device = Reporter(MemorySpool(), open_transport(way))
        for _ in range(rounds):
            device.make(5)
            device.deliver_all()
            authority.renew(days=-1)
            device.courier.transport.close()  # connections that stand are not asked again
            device.make(20)
            assert not device.deliver()
            authority.renew()
            device.deliver_all()
        device.courier.transport.close()
        verdict = judge(device.ledger, [(s.report.boot, s.report.seq) for s in collector.store.reports()])
    record(f"the collector's certificate expires, {rounds} times", f"{verdict.kept} reports", str(verdict))
    verdict.check()
    (refused,) = set(device.errors)
    assert "expired" in refused
    assert "\n" not in refused
    assert len(said) <= 2 * rounds + 1, said
