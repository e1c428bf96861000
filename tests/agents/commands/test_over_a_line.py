"""A real agent on a real pty: what anybody on the line may ask, what only its operator may, and what is refused."""

from __future__ import annotations

import os
import time
import tty
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from secrets import randbits

import pytest

from edgeloop.bundle.keys import load_or_create_signing_key
from edgeloop.devices.commanding.commander import Commander
from edgeloop.devices.commanding.direct import DirectLine
from edgeloop.devices.commanding.measuring import OnDevice, bench_there, profile_there
from edgeloop.errors import DeviceError, RefusedError
from edgeloop.telemetry.commands.signing import signed, unsigned
from edgeloop.telemetry.commands.values import Command, new_command_id
from edgeloop.telemetry.serial_link.address import OpenDescriptor
from edgeloop.telemetry.wire.framing import KIND_COMMAND
from support.agents import Agent, Agents, make_bundle


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


class Board:
    """A running agent and the host's end of its line."""

    def __init__(self, agents: Agents, folder: Path, *arguments: str) -> None:
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        bundle = make_bundle(folder / "digits.bundle")
        self.agent: Agent = agents.start(
            "--bundle", bundle, "--source", "synthetic:", "--rate", "50", "--device", "pi-1", "--report-interval",
            "3600", "--telemetry", f"serial://{os.ttyname(self.slave)}?baud=4000000", *arguments,
        )  # fmt: skip
        self.agent.wait_until_said("runs on")
        self.line = DirectLine(OpenDescriptor(self.master))
        self.operator = Commander(self.line, load_or_create_signing_key)

    def send(self, encoded: bytes) -> None:
        self.line._link.send(KIND_COMMAND, randbits(32), encoded)

    def close(self) -> None:
        self.operator.close()
        os.close(self.slave)


@pytest.fixture
def board(agents: Agents, tmp_path: Path) -> Iterator[Board]:
    made = Board(agents, tmp_path)
    yield made
    made.close()


def test_a_ping_is_answered_at_once_though_no_report_is_due(board: Board) -> None:
    board.operator.ask("ping")
    began = time.monotonic()
    answer = board.operator.ask("ping")
    assert time.monotonic() - began < 60.0
    assert answer["device"] == "pi-1"
    info = board.operator.ask("info")
    assert info["boot"] == answer["boot"]
    assert (info["last_counter"], info["busy"], info["log_level"]) == (0, "", "info")
    (model,) = info["models"]
    assert (model["bundle"], model["version"], model["phase"], model["delegate_ran"]) == (
        "digits", 7, "running", "xnnpack",
    )  # fmt: skip


def test_the_operator_is_obeyed_and_what_was_asked_is_in_the_report(board: Board) -> None:
    assert board.operator.ask("log_level", {"level": "debug"}) == {"level": "debug", "was": "info"}
    assert board.operator.ask("report_now") == {"reports": 1}
    board.agent.wait_until_said("debug: report 1 of digits")
    assert board.operator.ask("info")["last_counter"] > 0
    summary = board.agent.stop()
    said = [event["detail"] for event in summary["events"] if event["kind"] == "command"]
    fingerprint = load_or_create_signing_key().fingerprint
    assert said == [f"log_level, signed by {fingerprint}", f"report_now, signed by {fingerprint}"]


@pytest.mark.slow
def test_what_is_not_for_here_and_now_is_refused_counted_and_said_once(board: Board, tmp_path: Path) -> None:
    key, stranger = load_or_create_signing_key(), load_or_create_signing_key(tmp_path / "stranger")
    start = board.line.start()
    good = Command("log_level", new_command_id(), {"level": "warning"}, "pi-1", start.boot, 5, start.uptime_s + 600)
    fresh = [replace(good, id=new_command_id()) for _ in range(8)]
    refused = {
        "other boot": signed(replace(fresh[0], boot="f" * 16), key),
        "expired": signed(replace(fresh[1], until_uptime_s=0.001), key),
        "not signed": unsigned(fresh[2]),
        "unknown signer": signed(fresh[3], stranger),
        "unknown kind": unsigned(Command("reboot", fresh[4].id)),
    }
    for reason, data in refused.items():
        for _ in range(2):
            time.sleep(1.1 if reason == "unknown kind" else 0)
            answer = board.line.ask(replace(good, id=_id_of(data)), data, 10.0)
            assert answer.error, reason
    for data in (signed(replace(fresh[5], device="pi-2"), key), b"\xff" * 30, b""):
        board.send(data)
    for _ in range(8):  # faster than one a second, however busy the machine is
        board.send(signed(replace(good, id=new_command_id()), stranger))
    board.operator.ask("info")  # after all of them
    time.sleep(1.1)  # no signature is looked at for a second after a forged one
    assert board.line.ask(good, signed(good, key), 10.0).is_ok
    replayed = board.line.ask(fresh[6], signed(fresh[6], key), 10.0)
    assert "counter" in replayed.error
    assert board.operator.ask("info")["log_level"] == "warning"
    summary = board.agent.stop()
    assert summary["inferences"] > 0, "nothing else is affected"
    said = [e["detail"].partition(":")[0] for e in summary["events"] if e["kind"] == "command_refused"]
    assert sorted(said) == sorted({*refused, "other device", "unreadable", "replayed", "too soon"})


def test_a_command_that_is_sent_again_for_want_of_an_answer_is_obeyed_once(board: Board) -> None:
    start = board.line.start()
    command = Command("report_now", new_command_id(), {}, "pi-1", start.boot, 9, start.uptime_s + 600)
    data = signed(command, load_or_create_signing_key())
    answers = [board.line.ask(command, data, 10.0) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert board.agent.stop()["reports"]["made"] == 2, "the one that was asked for, and the last"


def test_operators_can_be_others_than_those_who_sign_bundles(agents: Agents, tmp_path: Path) -> None:
    operator = load_or_create_signing_key(tmp_path / "operator")
    board = Board(agents, tmp_path, "--operators", str(operator.public_path))
    with pytest.raises(RefusedError, match="not signed by an operator"):
        board.operator.ask("report_now")
    time.sleep(1.1)
    assert Commander(board.line, lambda: operator).ask("report_now") == {"reports": 1}
    board.close()


@pytest.mark.slow
@pytest.mark.parametrize("pause", [False, True])
def test_the_model_is_measured_on_the_device(board: Board, pause: bool) -> None:
    measured = bench_there(board.operator, OnDevice("digits", 7, delegates=("xnnpack", "cpu"), n=40, pause=pause))
    assert [(r.model, r.delegate, r.n) for r in measured.report.results] == [
        ("int8", "xnnpack", 40), ("int8", "cpu", 40),
    ]  # fmt: skip
    low, high = measured.report.results[0].ci95_ms or (0, 0)
    assert 0 < low <= measured.report.results[0].p50_ms <= high
    assert (measured.bundle, measured.version) == ("digits", 7)
    assert measured.worker == ("paused" if pause else "running")
    board.agent.wait_until(lambda: board.operator.ask("info")["models"][0]["phase"] == "running", "ran on")
    before = board.agent.said.count("runs on")
    assert before == (2 if pause else 1), "a worker that was paused is another one afterwards"
    summary = board.agent.stop()
    assert summary["restarts"] == 0
    assert summary["inferences"] > 0


def test_an_ops_time_is_measured_on_the_device(board: Board) -> None:
    (profile,) = profile_there(board.operator, OnDevice(delegates=("cpu",), n=20))
    assert profile.ops[0].name == "CONV_2D"
    assert sum(op.share for op in profile.ops) == pytest.approx(1.0, abs=0.001)


def test_what_is_not_there_names_the_next_step_and_one_job_runs_at_a_time(board: Board) -> None:
    with pytest.raises(DeviceError, match="other 1 is not on this device, it has digits 7") as caught:
        bench_there(board.operator, OnDevice("other", 1))
    assert "ssh://" in str(caught.value)
    with pytest.raises(DeviceError, match="no variant 'x'"):
        bench_there(board.operator, OnDevice(variants=("x",)))
    for kind in (bench_there, profile_there):
        with pytest.raises(DeviceError, match="a command loads no library"):
            kind(board.operator, OnDevice(delegates=("external:/tmp/lib.so?key=value",)))
        with pytest.raises(DeviceError, match="delegate"):
            kind(board.operator, OnDevice(delegates=("--help",)))
    with pytest.raises(DeviceError, match="libedgetpu"):
        bench_there(board.operator, OnDevice(delegates=("edgetpu",)))
    with pytest.raises(DeviceError, match="took longer than 1 s"):
        bench_there(board.operator, OnDevice(n=100_000, threads=1, timeout_s=1.0))
    start = board.line.start()
    slow = Command("bench", new_command_id(), {"n": 3000}, "pi-1", start.boot, 10**15, start.uptime_s + 60)
    board.send(signed(slow, load_or_create_signing_key()))
    with pytest.raises(DeviceError, match="busy with a bench"):
        bench_there(board.operator, OnDevice())
    assert board.operator.ask("ping")["device"] == "pi-1", "meanwhile it answers"


def test_a_measurement_dies_with_its_agent(board: Board) -> None:
    start = board.line.start()
    slow = Command("bench", new_command_id(), {"n": 100_000}, "pi-1", start.boot, 5, start.uptime_s + 60)
    board.send(signed(slow, load_or_create_signing_key()))
    pid = board.agent.process.pid

    def children() -> list[str]:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    board.agent.wait_until(lambda: len(children()) == 2, "started the measuring child")
    theirs = children()
    board.agent.process.kill()
    board.agent.process.wait()
    for _ in range(500):
        if not any(Path(f"/proc/{child}/cmdline").exists() and _is_alive(child) for child in theirs):
            return
        time.sleep(0.02)
    pytest.fail("a child outlived its agent")


def _is_alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_nobody_at_the_other_end_is_one_line() -> None:
    master, slave = os.openpty()
    line = Commander(DirectLine(OpenDescriptor(master)), load_or_create_signing_key)
    with pytest.raises(DeviceError, match="no answer to ping within"):
        line.ask("ping", timeout_s=0.2)
    line.close()
    os.close(slave)


def _id_of(data: bytes) -> str:
    from edgeloop.telemetry.commands.codec import decode_envelope

    return decode_envelope(data).command.id
