"""Device side and host side as they are shipped: the real collector's server and serial listener, the real spool."""

from __future__ import annotations

import os
from pathlib import Path

from edgeloop.telemetry.collector import start_collector
from edgeloop.telemetry.collector.carried_import import CarriedImport
from edgeloop.telemetry.collector.mqtt_listener import MqttListener
from edgeloop.telemetry.delivery.courier import Courier
from edgeloop.telemetry.delivery.ways import courier_for
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.spool.spool import Spool
from edgeloop.telemetry.transports import Transport, open_transport
from edgeloop.telemetry.wire.codec import encode_report
from support.certificates import Certificates
from support.collecting import wait_until
from support.mosquitto import Mosquitto
from support.reports import BOOT, typical_report


def _deliver(spool: Spool, transport: Transport) -> None:
    courier = courier_for(spool, transport)
    for _ in range(20):
        if courier.deliver().done:
            transport.close()
            return
    raise AssertionError(f"{spool.stats()}")


def test_reports_of_every_way_are_stored_once_with_their_histograms(tmp_path: Path) -> None:
    """Each device by its own way, into one collector."""
    master, slave = os.openpty()
    broker, stick = Mosquitto(tmp_path, Certificates(tmp_path)), tmp_path / "stick"
    stick.mkdir()
    urls = {"serial": f"serial://{os.ttyname(slave)}?baud=4000000", "mqtts": broker.url, "file": f"file://{stick}"}
    spools, made = {}, []
    with start_collector(
        f"sqlite:///{tmp_path / 'telemetry.db'}", serial_ports=[master], brokers=[broker.url]
    ) as collector:
        urls["http"] = collector.url
        at_the_broker = next(each for each in collector.listeners if isinstance(each, MqttListener))
        wait_until(lambda: at_the_broker.is_connected, "the collector is at the broker")
        for number, (name, url) in enumerate(urls.items()):
            boot, spools[name] = f"{number:016x}".replace("0", "a"), Spool(tmp_path / f"{name}.db")
            for seq in range(1, 31):
                report = typical_report(seq, boot=boot, device=name)
                made.append(report)
                spools[name].put(encode_report(report), boot, seq)
            transport = open_transport(url, device=name)
            _deliver(spools[name], transport)
        assert CarriedImport(collector.ingest.handle).run(stick).accepted == 30
        _deliver(spools["file"], open_transport(urls["file"], device="file"))
        assert [spool.stats().reports for spool in spools.values()] == [0, 0, 0, 0]
        stored = [row.report for row in collector.store.reports()]
    os.close(slave)
    broker.stop()
    for spool in spools.values():
        spool.close()
    assert sorted(report.key for report in stored) == sorted(report.key for report in made)
    assert Histogram.merged(report.latency["invoke"] for report in stored) == Histogram.merged(
        report.latency["invoke"] for report in made
    )


def test_a_collector_that_is_killed_and_started_again_gets_every_report_once(tmp_path: Path) -> None:
    """On the same port and store; the device's connection is the old one."""
    store = f"sqlite:///{tmp_path / 'telemetry.db'}"
    spool = Spool(tmp_path / "spool.db")
    first = start_collector(store)
    port = first.url.rsplit(":", 1)[1].strip("/")
    transport = open_transport(f"http://127.0.0.1:{port}")
    courier = Courier(spool, transport)

    def put(*seqs: int) -> None:
        for seq in seqs:
            spool.put(encode_report(typical_report(seq, samples=5)), BOOT, seq)

    put(1, 2, 3)
    assert courier.deliver().done
    first.stop()
    put(4, 5, 6)
    assert not courier.deliver().done
    with start_collector(store, f"127.0.0.1:{port}") as second:
        _deliver(spool, transport)
        assert [row.report.seq for row in second.store.reports()] == [1, 2, 3, 4, 5, 6]
    spool.close()
