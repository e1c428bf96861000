"""Serial ports handed out over TCP: real loopback servers for `socket://` and `rfc2217://`, at both ends of a line."""

from __future__ import annotations

import os
import select
import socket
import threading
import tty
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from edgeloop.errors import DeviceError, UsageError
from edgeloop.telemetry.collector import start_collector
from edgeloop.telemetry.serial_link.address import SerialPort, is_serial_url, parse_serial
from edgeloop.telemetry.transports import open_transport
from edgeloop.telemetry.wire.codec import encode_report
from support.collecting import BOOT, make_report, wait_until
from support.port_server import PortServer


@pytest.fixture(params=["socket", "rfc2217"])
def server(request: pytest.FixtureRequest) -> Iterator[PortServer]:
    made = PortServer(request.param)
    yield made
    made.close()


def _deliver(url: str, seqs: range) -> None:
    transport = open_transport(url)
    for seq in seqs:
        assert transport.send([encode_report(make_report(seq))], 20.0).accepted == ((BOOT, seq, seq),)
    transport.close()


def test_a_device_behind_a_network_port_is_collected(server: PortServer, tmp_path: Path) -> None:
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}", serial_ports=[server.master]) as collector:
        _deliver(f"{server.url}?baud=57600", range(1, 4))
        assert [each.report.seq for each in collector.store.reports()] == [1, 2, 3]
    if server.url.startswith("rfc2217"):
        assert server.settings[-1] == 57_600, "the far port has the speed that was asked for"


def test_a_collector_reads_a_network_port_and_takes_it_again(server: PortServer, tmp_path: Path) -> None:
    said: list[str] = []
    path = tmp_path / "ttyDevice"
    master = server.master
    # The device is at the master of the pty that the server hands out.
    other_master, other_slave = os.openpty()
    tty.setraw(other_slave)
    path.symlink_to(os.ttyname(other_slave))

    def carry() -> None:
        with suppress(OSError):
            while True:
                ready, _, _ = select.select([master, other_master], [], [])
                for source, sink in ((master, other_master), (other_master, master)):
                    if source in ready:
                        os.write(sink, os.read(source, 4096))

    threading.Thread(target=carry, daemon=True).start()
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}", serial_ports=[server.url], say=said.append) as collector:
        _deliver(f"serial://{path}?baud=4000000", range(1, 3))
        server.drop()
        wait_until(lambda: any("is back" in line for line in said), "the line is taken again")
        _deliver(f"serial://{path}?baud=4000000", range(3, 5))
        assert [each.report.seq for each in collector.store.reports()] == [1, 2, 3, 4]


@pytest.mark.parametrize("scheme", ["socket", "rfc2217"])
def test_nobody_there_is_one_line(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(DeviceError, match="nobody listens") as caught:
        open_transport(f"{scheme}://127.0.0.1:{port}").send([b"x"], 1.0)
    assert "\n" not in str(caught.value)


def test_addresses() -> None:
    assert parse_serial("socket://pi:4001") == SerialPort("socket://pi:4001", 115_200)
    assert parse_serial("rfc2217://[::1]:4001?baud=9600") == SerialPort("rfc2217://[::1]:4001", 9600)
    assert is_serial_url("rfc2217://x:1")
    assert not is_serial_url("http://x:1")
    assert not is_serial_url("pi-1")
    for wrong in ("socket://pi", "socket://:1", "rfc2217://u@pi:1", "socket://pi:1/x", "socket://pi:99999"):
        with pytest.raises(UsageError):
            parse_serial(wrong)
        with pytest.raises(UsageError):
            open_transport(wrong)
