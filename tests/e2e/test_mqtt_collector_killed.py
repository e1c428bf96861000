"""`edgeloop collect --mqtt` as a process, killed."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from edgeloop.telemetry.delivery.courier import Courier
from edgeloop.telemetry.spool.spool import Spool
from edgeloop.telemetry.store import open_store
from edgeloop.telemetry.transports import open_transport
from support.collecting import collector_process, wait_until
from support.mosquitto import Mosquitto
from support.reports import BOOT, small_body


def test_a_collector_as_a_process_is_killed_and_each_report_is_stored_once(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    spool, path = Spool(tmp_path / "spool.db"), tmp_path / "stored.db"
    transport = open_transport(broker.url, device="pi-1")
    courier = Courier(spool, transport, timeout_s=3.0)
    for first in (1, 101):
        with collector_process(path, "--mqtt", broker.url) as collector:
            for seq in range(first, first + 100):
                spool.put(small_body(seq), BOOT, seq)
                if first == 1 and seq == 60:
                    wait_until(lambda: courier.deliver(3.0).accepted > 0, "some were taken")
            if first == 1:
                collector.kill()
                assert not courier.deliver(1.0).done
            else:
                wait_until(lambda: courier.deliver().done, "all were taken")
    transport.close()
    spool.close()
    broker.stop()
    with closing(open_store(f"sqlite:///{path}")) as store:
        assert sorted(row.report.seq for row in store.reports()) == list(range(1, 201))
