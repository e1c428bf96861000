"""The collector's queue of commands: its table, its endpoints, and the ways to a device and back."""

from __future__ import annotations

import json
import os
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeloop.bundle.keys import load_or_create_signing_key
from edgeloop.devices.commanding.commander import Commander, connect_agent
from edgeloop.devices.commanding.through_collector import ThroughCollector
from edgeloop.errors import DataError, DeviceError, UsageError
from edgeloop.telemetry.collector import start_collector
from edgeloop.telemetry.collector.commands import CommandQueue, TooManyError
from edgeloop.telemetry.commands.codec import encode_answer
from edgeloop.telemetry.commands.signing import unsigned
from edgeloop.telemetry.commands.values import Answer, Command, new_command_id
from edgeloop.telemetry.reading.remote import CollectorClient
from edgeloop.telemetry.store import open_store
from edgeloop.telemetry.transports import open_transport
from edgeloop.telemetry.wire.codec import MAX_COMMANDS, encode_report
from support.agents import Agents, make_bundle
from support.collecting import BOOT, make_report


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def queue(tmp_path: Path):  # type: ignore[no-untyped-def]
    store = open_store(f"sqlite:///{tmp_path / 'x.db'}")
    made = CommandQueue(store.database, Clock())
    yield made
    store.close()


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


def ping(device: str = "pi-1") -> tuple[str, bytes]:
    command = Command("ping", new_command_id(), device=device)
    return command.id, unsigned(command)


def at(queue: CommandQueue, seconds: float) -> None:
    queue._clock.now_s = 1000.0 + seconds  # type: ignore[attr-defined]
    queue._known_until_s = 0.0


def test_a_command_waits_is_delivered_and_answered(queue: CommandQueue) -> None:
    command_id, body = ping()
    assert queue.add("pi-1", body).state == "pending"
    assert queue.pending("pi-2") == ()
    assert queue.pending("pi-1") == [body]
    assert queue.get(command_id).state == "delivered"  # type: ignore[union-attr]
    queue.answered("pi-1", [b"nonsense", encode_answer(Answer(command_id, {"device": "pi-1"}))])
    queue.answered("pi-1", [encode_answer(Answer(command_id, error="a second answer"))])
    found = queue.get(command_id)
    assert found is not None
    assert (found.state, found.answer) == ("answered", Answer(command_id, {"device": "pi-1"}))
    at(queue, 60)
    assert queue.pending("pi-1") == ()


def test_what_was_not_answered_is_handed_out_again_and_expires(queue: CommandQueue) -> None:
    command_id, body = ping()
    queue.add("pi-1", body)
    assert queue.pending("pi-1") == [body]
    assert queue.pending("pi-1") == []
    at(queue, 31)
    assert queue.pending("pi-1") == [body]
    at(queue, 901)
    assert queue.pending("pi-1") == ()
    assert queue.get(command_id).state == "expired"  # type: ignore[union-attr]


def test_another_device_cannot_answer(queue: CommandQueue) -> None:
    command_id, body = ping()
    queue.add("pi-1", body)
    queue.answered("pi-2", [encode_answer(Answer(command_id, {"device": "pi-1"}))])
    assert queue.get(command_id).state == "pending"  # type: ignore[union-attr]


def test_what_is_no_command_for_the_device_is_refused(queue: CommandQueue) -> None:
    _, body = ping("pi-2")
    for wrong in (body, b"", b"\xff" * 50):
        with pytest.raises(DataError):
            queue.add("pi-1", wrong)
    command_id, body = ping()
    queue.add("pi-1", body)
    assert queue.add("pi-1", body).id == command_id, "posting again is harmless"
    with pytest.raises(DataError, match="another command"):
        queue.add("pi-1", unsigned(Command("info", command_id)))
    for _ in range(MAX_COMMANDS - 1):
        queue.add("pi-1", ping()[1])
    with pytest.raises(TooManyError):
        queue.add("pi-1", ping()[1])
    queue.add("pi-3", ping("pi-3")[1])


def test_several_gateways_over_one_store_hand_out_and_take_in(queue: CommandQueue) -> None:
    other = CommandQueue(queue._database, queue._clock)
    command_id, body = ping()
    queue.add("pi-1", body)
    assert other.pending("pi-1") == [body]
    other.answered("", [encode_answer(Answer(command_id))])
    assert queue.get(command_id).state == "answered"  # type: ignore[union-attr]


def test_the_endpoints(tmp_path: Path) -> None:
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}") as collector:
        client = CollectorClient(collector.url)
        with pytest.raises(DeviceError, match="no report of pi-1"):
            client.get("/v1/devices/pi-1/commands")
        transport = open_transport(collector.url)
        transport.send([encode_report(make_report(1))])
        start = ThroughCollector(collector.url, "pi-1").start()
        assert (start.device, start.boot, start.last_counter) == ("pi-1", BOOT, 0)
        assert start.uptime_s >= 10.0
        command_id, body = ping()
        assert json.loads(client.post("/v1/devices/pi-1/commands", body, "application/cbor"))["state"] == "pending"
        ack = transport.send([encode_report(make_report(2))])
        assert ack.commands == (body,)
        transport.send((), 10.0, [encode_answer(Answer(command_id, {"device": "<b>pi</b>"}))])
        found = json.loads(client.get(f"/v1/commands/{command_id}", {"wait_s": 5}))
        assert (found["state"], found["ok"], found["answer"]) == ("answered", True, {"device": "<b>pi</b>"})
        for path, kind, code in (
            ("/v1/devices/pi-1/commands", "text/plain", "415"),
            ("/v1/devices/pi-2/commands", "application/cbor", "no report of pi-2 has arrived here; did you mean pi-1"),
        ):
            with pytest.raises((DeviceError, DataError), match=code):
                client.post(path, body, kind)
        with pytest.raises(DeviceError, match="413"):
            client.post("/v1/devices/pi-1/commands", b"x" * 3000, "application/cbor")
        with pytest.raises(DeviceError, match="no such command"):
            client.get("/v1/commands/0000000000000000")
        with pytest.raises(DataError, match="wait_s"):
            client.get(f"/v1/commands/{command_id}", {"wait_s": "soon"})
        transport.close()


def test_an_operator_reaches_an_agent_through_its_collector(agents: Agents, tmp_path: Path) -> None:
    """HTTP: with the acknowledgement of the next report; what it was asked for, it does, and says so."""
    bundle = make_bundle(tmp_path / "digits.bundle")
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}") as collector:
        agent = agents.start(
            "--bundle", bundle, "--source", "synthetic:", "--rate", "50", "--device", "pi-1", "--report-interval",
            "0.3", "--telemetry", collector.url,
        )  # fmt: skip
        agent.wait_until(lambda: collector.store.counts().reports, "reported")
        with connect_agent("pi-1", collector.url) as operator:
            assert operator.ask("ping")["device"] == "pi-1"
            assert operator.ask("log_level", {"level": "debug"})["was"] == "info"
            assert operator.ask("report_now") == {"reports": 1}
            assert operator.ask("info")["models"][0]["bundle"] == "digits"
        with pytest.raises(DeviceError, match="no report of pi-9"):
            connect_agent("pi-9", collector.url).ask("report_now")
        stranger = load_or_create_signing_key(tmp_path / "stranger")
        with pytest.raises(Exception, match="not signed by an operator"):
            connect_agent("pi-1", collector.url, key=lambda: stranger).ask("report_now")
        agent.stop()
        events = [event.kind for row in collector.store.reports() for event in row.report.events]
        refused = sum(row.report.counters.get("commands_refused", 0) for row in collector.store.reports())
    assert events.count("command") == 2
    assert (events.count("command_refused"), refused) == (1, 1)


def test_on_a_serial_line_a_command_goes_out_at_once(agents: Agents, tmp_path: Path) -> None:
    """The agent reports once an hour; the collector holds the line and passes on what the operator posts."""
    bundle = make_bundle(tmp_path / "digits.bundle")
    master, slave = os.openpty()
    tty.setraw(slave)
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}", serial_ports=[master]) as collector:
        agent = agents.start(
            "--bundle", bundle, "--source", "synthetic:", "--rate", "50", "--device", "pi-1", "--report-interval",
            "3600", "--telemetry", f"serial://{os.ttyname(slave)}?baud=4000000",
        )  # fmt: skip
        agent.wait_until(lambda: collector.listeners[0].devices, "answered the listener's ping")
        way = ThroughCollector(collector.url, "pi-1")
        assert Commander(way, load_or_create_signing_key).ask("ping", timeout_s=60.0)["device"] == "pi-1"
        assert not collector.store.counts().reports
        agent.stop()
    os.close(slave)


def test_where_a_device_is_must_be_clear() -> None:
    with pytest.raises(UsageError, match="give one of both"):
        connect_agent("serial:///dev/ttyUSB0", "http://127.0.0.1:8080")
    for wrong in ("ssh://pi@pi4.local", "/dev/ttyUSB0"):
        with pytest.raises(UsageError, match="no way to reach its agent"):
            connect_agent(wrong)
