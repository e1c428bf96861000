"""A device that was revoked is taken no report of, whichever way it comes."""

from __future__ import annotations

import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from edgeloop.telemetry.collector.ingest import Ingest
from edgeloop.telemetry.collector.security.revoked import RevokedNames
from edgeloop.telemetry.collector.security.security import Security
from edgeloop.telemetry.collector.server import start_collector
from edgeloop.telemetry.store import open_store
from edgeloop.telemetry.store.database import Store
from edgeloop.telemetry.transports import open_transport
from edgeloop.telemetry.wire.codec import decode_ack, encode_batch, encode_report
from support.collecting import BOOT, batch_of, make_report, wait_until
from support.mosquitto import Mosquitto


def revoke(store: Store, name: str) -> None:
    security = Security.over(store.database)
    with store.database.writer.begin() as connection:
        security.registry.put(connection, name, status="enrolled")
    security.registry.revoke([name], "ann")


@pytest.mark.parametrize("sender", [None, "pi-2"])
def test_its_reports_are_rejected_its_answers_dropped_and_no_command_goes_to_it(
    store: Store, sender: str | None
) -> None:
    answered: list[object] = []
    ingest = Ingest(
        store,
        revoked=RevokedNames(store.database),
        pending_commands=lambda _device: [b"command"],
        on_answers=lambda *what: answered.append(what),
    )
    revoke(store, "pi-2")
    ack = ingest.handle(encode_batch([encode_report(make_report(1, device="pi-2"))], [b"answer"]), sender)
    assert [(each.seq, each.reason) for each in ack.rejected] == [(1, "is from a device that was revoked")]
    assert (ack.accepted, ack.commands, answered) == ((), (), [])
    assert ingest.handle(encode_batch([], [b"answer"]), "pi-2").commands == ()
    assert store.quarantined()[0].device == "pi-2"
    others = ingest.handle(batch_of(make_report(1), make_report(2, device="pi-2")))
    assert others.accepted == ((BOOT, 1, 1),)


def test_it_is_known_within_two_seconds_and_ends_when_the_name_is_free_again(store: Store) -> None:
    now_s = 0.0
    names = RevokedNames(store.database, lambda: now_s)
    assert not names()
    revoke(store, "pi-2")
    assert not names()
    now_s = 2.0
    assert set(names()) == {"pi-2"}
    Security.over(store.database).registry.remove(["pi-2"], "ann")
    now_s = 4.0
    assert not names()


def test_a_collector_on_loopback_knows_them_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    store = open_store(url)
    revoke(store, "pi-2")
    store.close()
    with start_collector(url) as collector:
        body, headers = batch_of(make_report(1, device="pi-2")), {"Content-Type": "application/cbor"}
        request = urllib.request.Request(f"{collector.url}/v1/reports", body, headers)
        with urllib.request.urlopen(request) as answer:
            assert len(decode_ack(answer.read()).rejected) == 1


def test_over_a_real_broker_the_registry_counts_too(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    url = f"sqlite:///{tmp_path / 'x.db'}"
    store = open_store(url)
    revoke(store, "pi-2")
    store.close()
    try:
        with start_collector(url, brokers=[broker.url]) as collector:
            wait_until(lambda: collector.listeners[0].is_connected, "at the broker")  # type: ignore[union-attr]
            for device, rejected in (("pi-1", 0), ("pi-2", 1)):
                with closing(open_transport(broker.url, device=device)) as transport:
                    assert len(transport.send([encode_report(make_report(1, device=device))], 5.0).rejected) == rejected
    finally:
        broker.stop()
