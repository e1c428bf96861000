"""Device side and host side as they are shipped: the real collector's server and serial listener, the real spool."""

from __future__ import annotations

import os
from pathlib import Path

from edgeloop.telemetry.codec import encode_report
from edgeloop.telemetry.collector import start_collector
from edgeloop.telemetry.delivery import Courier
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.spool import Spool
from edgeloop.telemetry.transports import Transport, open_transport
from support.reports import BOOT, OTHER_BOOT, typical_report


def _deliver(spool: Spool, transport: Transport) -> None:
    courier = Courier(spool, transport)
    for _ in range(20):
        if courier.deliver().done:
            transport.close()
            return
    raise AssertionError(f"{spool.stats()}")


def test_http_and_serial_reports_are_stored_once_with_their_histograms(tmp_path: Path) -> None:
    master, slave = os.openpty()
    spool = Spool(tmp_path / "spool.db")
    reports = {
        boot: [typical_report(seq, boot=boot, device=boot[:4]) for seq in range(1, 31)] for boot in (BOOT, OTHER_BOOT)
    }
    with start_collector(f"sqlite:///{tmp_path / 'telemetry.db'}", serial_ports=[master]) as collector:
        for boot, url in ((BOOT, collector.url), (OTHER_BOOT, f"serial://{os.ttyname(slave)}?baud=4000000")):
            for report in reports[boot]:
                spool.put(encode_report(report), boot, report.seq)
            _deliver(spool, open_transport(url))
        stored = [row.report for row in collector.store.reports()]
    os.close(slave)
    spool.close()
    assert sorted(report.key for report in stored) == sorted(r.key for each in reports.values() for r in each)
    assert Histogram.merged(report.latency["invoke"] for report in stored) == Histogram.merged(
        report.latency["invoke"] for each in reports.values() for report in each
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
