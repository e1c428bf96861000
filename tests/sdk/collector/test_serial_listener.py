"""The serial line: pty pairs through pyserial, with damage on the way and ports that vanish."""

from __future__ import annotations

import os
import random
import select
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeloop.errors import DeviceError, UsageError
from edgeloop.telemetry.collector import CollectorHandle, start_collector
from edgeloop.telemetry.serial_link.address import SerialPort, parse_serial
from edgeloop.telemetry.transports import open_transport
from edgeloop.telemetry.wire.codec import decode_ack, encode_report
from edgeloop.telemetry.wire.framing import KIND_ACK, KIND_BATCH, FrameReader, encode_request, split_request
from support.collecting import BOOT, batch_of, make_report, wait_until
from support.noise import noisy


class Cable:
    """Two ports, `device` and `host`, as paths; what goes in at one comes out at the other, damaged at `rate`."""

    def __init__(self, folder: Path, rate: float = 0.0) -> None:
        self.device, self.host = folder / "ttyDevice", folder / "ttyHost"
        self.rate = rate
        self._rng = random.Random(3)
        self._thread: threading.Thread | None = None
        self.plug_in()

    def plug_in(self) -> None:
        self._masters, self._slaves = zip(*(os.openpty() for _ in range(2)), strict=True)
        for slave, path in zip(self._slaves, (self.device, self.host), strict=True):
            tty.setraw(slave)
            path.symlink_to(os.ttyname(slave))
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def pull_out(self) -> None:
        if self._thread is None:
            return
        os.write(self._wake_write, b"x")
        self._thread.join()
        self._thread = None
        for path in (self.device, self.host):
            path.unlink()
        for descriptor in (*self._masters, *self._slaves, self._wake_read, self._wake_write):
            os.close(descriptor)

    def _carry(self) -> None:
        a, b = self._masters
        while True:
            ready, _, _ = select.select([a, b, self._wake_read], [], [])
            if self._wake_read in ready:
                return
            for source, sink in ((a, b), (b, a)):
                if source in ready:
                    data = os.read(source, 4096)
                    if self.rate:
                        data, _faults = noisy(data, self.rate, self._rng)
                    os.write(sink, data)


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    made = Cable(tmp_path)
    yield made
    made.pull_out()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def collector(tmp_path: Path, cable: Cable, said: list[str]) -> Iterator[CollectorHandle]:
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}", serial_ports=[str(cable.host)], say=said.append) as handle:
        yield handle


def deliver(cable: Cable, seqs: range, timeout_s: float = 0.3) -> int:
    """Every report of `seqs`, one by one, as often as it takes; how many had to be sent again."""
    transport, again = open_transport(f"serial://{cable.device}?baud=4000000"), 0
    try:
        for seq in seqs:
            for _ in range(500):
                try:
                    ack = transport.send([encode_report(make_report(seq))], timeout_s)
                except DeviceError:
                    again += 1
                else:
                    assert ack.accepted == ((BOOT, seq, seq),)
                    break
            else:
                pytest.fail(f"report {seq} never got through")
    finally:
        transport.close()
    return again


def seqs(collector: CollectorHandle) -> list[int]:
    return [each.report.seq for each in collector.store.reports()]


def test_reports_arrive_over_a_serial_line(collector: CollectorHandle, cable: Cable, said: list[str]) -> None:
    assert deliver(cable, range(1, 6), 20.0) == 0
    assert seqs(collector) == [1, 2, 3, 4, 5]
    assert said == []


def test_a_damaged_line_loses_nothing_and_lets_nothing_wrong_in(collector: CollectorHandle, cable: Cable) -> None:
    cable.rate = 1e-3
    assert deliver(cable, range(1, 41)) > 0, "the line was not bad enough to show anything"
    assert sorted(seqs(collector)) == list(range(1, 41))
    assert all(each.report == make_report(each.report.seq) for each in collector.store.reports())
    assert collector.ingest.metrics.snapshot()[0]["frames_damaged"] > 0
    assert collector.store.counts().quarantined == 0


def test_a_port_that_vanishes_is_taken_again_when_it_is_back(
    collector: CollectorHandle, cable: Cable, said: list[str]
) -> None:
    deliver(cable, range(1, 3), 20.0)
    cable.pull_out()
    wait_until(lambda: len(said) == 1, "the trouble is told")
    assert "waiting for it" in said[0]
    cable.plug_in()
    wait_until(lambda: len(said) == 2, "the end of the trouble is told")
    assert "is back" in said[1]
    deliver(cable, range(3, 5), 20.0)
    assert seqs(collector) == [1, 2, 3, 4]


def test_http_and_serial_go_into_one_store(collector: CollectorHandle, cable: Cable) -> None:
    http = open_transport(collector.url)
    threads = [
        threading.Thread(target=deliver, args=(cable, range(1, 11), 20.0)),
        threading.Thread(target=lambda: [http.send([encode_report(make_report(n))]) for n in range(1, 11)]),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    http.close()
    assert sorted(seqs(collector)) == list(range(1, 11))


def test_an_open_descriptor_serves_as_a_line(tmp_path: Path) -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}", serial_ports=[master]) as collector:
        os.write(slave, encode_request(KIND_BATCH, 77, batch_of(make_report(1))))
        reader, frames = FrameReader(), []
        while not frames:  # it also asks who is there
            frames = [frame for frame in reader.feed(os.read(slave, 4096)) if frame.kind == KIND_ACK]
        request_id, body = split_request(frames[0].payload)
        assert (frames[0].kind, request_id) == (KIND_ACK, 77)
        assert decode_ack(body).accepted == ((BOOT, 1, 1),)
        assert seqs(collector) == [1]
    os.close(slave)


def test_bytes_at_the_wrong_speed_are_told_once(collector: CollectorHandle, cable: Cable, said: list[str]) -> None:
    line = os.open(cable.device, os.O_RDWR | os.O_NOCTTY)
    for _ in range(20):
        os.write(line, b"\xf8\x80\x1f noise\0")
    wait_until(lambda: bool(said), "the damage is told")
    os.write(line, b"more\0" * 20)
    os.close(line)
    deliver(cable, range(1, 2), 20.0)
    assert len(said) == 1
    assert "same at both ends" in said[0]


def test_an_absent_port_is_one_clear_line_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="is not there") as caught:
        start_collector(f"sqlite:///{tmp_path / 'x.db'}", serial_ports=[str(tmp_path / "ttyUSB9")])
    assert "\n" not in str(caught.value)


def test_a_busy_port_is_one_clear_line_at_the_start(collector: CollectorHandle, cable: Cable, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="another program"):
        start_collector(f"sqlite:///{tmp_path / 'y.db'}", serial_ports=[str(cable.host)])


def test_ports_are_named_by_path_or_url() -> None:
    assert parse_serial("/dev/ttyUSB0") == SerialPort("/dev/ttyUSB0", 115_200)
    assert parse_serial("/dev/ttyACM0?baud=57600") == SerialPort("/dev/ttyACM0", 57_600)
    assert parse_serial("serial:///dev/ttyUSB0?baud=9600") == SerialPort("/dev/ttyUSB0", 9_600)
    for wrong in ("", "http://host/x", "serial://host/dev/x", "/dev/x?baud=fast", "/dev/x?baud=1", "/dev/x?speed=9600"):
        with pytest.raises(UsageError):
            parse_serial(wrong)
