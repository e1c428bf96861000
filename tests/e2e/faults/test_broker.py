"""A real mosquitto between device and collector that is killed, refuses, or loses the collector."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeloop.telemetry.collector import CollectorHandle, start_collector
from edgeloop.telemetry.collector.mqtt_listener import MqttListener
from edgeloop.telemetry.spool.memory import MemorySpool
from edgeloop.telemetry.transports import open_transport
from support.collecting import wait_until
from support.fault_processes import device_command, finish, process
from support.faults import Ledger, amount, judge, record, stored_keys
from support.mosquitto import Mosquitto
from support.reporter import Reporter

pytestmark = pytest.mark.slow


@contextmanager
def listening(broker: Mosquitto, folder: Path) -> Iterator[CollectorHandle]:
    """A collector that takes reports from the broker."""
    with start_collector(f"sqlite:///{folder / 'telemetry.db'}") as collector:
        listener = MqttListener(broker.url, collector.ingest)
        listener.start()
        try:
            wait_until(lambda: listener.is_connected, "the collector is at the broker")
            yield collector
        finally:
            listener.stop()


def test_the_broker_is_killed(tmp_path: Path) -> None:
    kills, reports = amount(2, 15), amount(400, 6000)
    rng = random.Random(6)
    broker = Mosquitto(tmp_path)
    try:
        with (
            listening(broker, tmp_path),
            process(device_command(tmp_path, broker.url, reports), tmp_path / "device.err") as device,
        ):
            done = 0
            while done < kills:
                time.sleep(rng.uniform(0.3, 2.5))
                broker.stop()
                time.sleep(rng.uniform(0.0, 0.5))
                broker.start()
                done += 1
            finish(device, tmp_path)
    finally:
        broker.stop()
    verdict = judge(Ledger.read(tmp_path / "ledger"), stored_keys(f"sqlite:///{tmp_path / 'telemetry.db'}"))
    record("broker killed (kill -9), mosquitto", f"{verdict.kept} reports, {done} kills", str(verdict))
    verdict.check()
    assert verdict.stored == reports


def test_the_collector_behind_the_broker_comes_and_goes(tmp_path: Path) -> None:
    rounds, reports = amount(2, 15), amount(400, 6000)
    rng = random.Random(7)
    broker = Mosquitto(tmp_path)
    try:
        with process(device_command(tmp_path, broker.url, reports), tmp_path / "device.err") as device:
            for _ in range(rounds):
                with listening(broker, tmp_path):
                    time.sleep(rng.uniform(0.3, 2.0))
            with listening(broker, tmp_path):
                finish(device, tmp_path)
    finally:
        broker.stop()
    verdict = judge(Ledger.read(tmp_path / "ledger"), stored_keys(f"sqlite:///{tmp_path / 'telemetry.db'}"))
    record("no collector at the broker, again and again", f"{verdict.kept} reports, {rounds} times", str(verdict))
    verdict.check()


def test_a_broker_that_refuses(tmp_path: Path) -> None:
    """It lets nobody in, then everybody: told once, nothing lost."""
    reports = amount(50, 1000)
    broker = Mosquitto(tmp_path)
    config = tmp_path / "mosquitto.conf"
    open_to_all = config.read_text()
    try:
        broker.stop()
        config.write_text(open_to_all.replace("allow_anonymous true", "allow_anonymous false"))
        broker.start()
        device = Reporter(MemorySpool(), open_transport(broker.url, device="pi-1"), timeout_s=3.0)
        device.make(reports)
        for _ in range(3):
            assert not device.deliver()
        refused = set(device.errors)
        broker.stop()
        config.write_text(open_to_all)
        broker.start()
        with listening(broker, tmp_path) as collector:
            device.deliver_all()
            verdict = judge(device.ledger, [(s.report.boot, s.report.seq) for s in collector.store.reports()])
        device.courier.transport.close()
    finally:
        broker.stop()
    record("broker refusing, then letting in", f"{verdict.kept} reports", str(verdict))
    verdict.check()
    assert len(refused) == 1, refused
    assert refused.pop().isprintable()
