"""Commands that nobody may give, by the hundred, to a real agent on a real pseudo-terminal: none is obeyed."""

from __future__ import annotations

import os
import random
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
from edgeloop.telemetry.commands.signing import signed, unsigned
from edgeloop.telemetry.commands.values import Command, new_command_id
from edgeloop.telemetry.serial_link.address import OpenDescriptor
from edgeloop.telemetry.wire.framing import KIND_COMMAND
from support.agents import Agents, make_bundle
from support.faults import amount, record

pytestmark = pytest.mark.slow


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


def test_forged_and_replayed_commands(agents: Agents, tmp_path: Path) -> None:
    count = amount(60, 3000)
    rng = random.Random(9)
    master, slave = os.openpty()
    tty.setraw(slave)
    agent = agents.start(
        "--bundle", make_bundle(tmp_path / "digits.bundle"), "--source", "synthetic:", "--rate", "50", "--device",
        "pi-1", "--report-interval", "3600", "--telemetry", f"serial://{os.ttyname(slave)}?baud=4000000",
    )  # fmt: skip
    agent.wait_until_said("runs on")
    line = DirectLine(OpenDescriptor(master))
    operator, stranger = load_or_create_signing_key(), load_or_create_signing_key(tmp_path / "stranger")
    ask = Commander(line, lambda: operator).ask
    assert ask("log_level", {"level": "debug"}) == {"level": "debug", "was": "info"}
    start = line.start()
    before = ask("info")["last_counter"]
    wanted = Command("log_level", "", {"level": "warning"}, "pi-1", start.boot, before + 1, start.uptime_s + 3600)
    heard = signed(replace(wanted, id=new_command_id(), counter=before), operator)  # as if somebody had recorded it
    make = {
        "forged": lambda: signed(replace(wanted, id=new_command_id()), stranger),
        "changed by a bit": lambda: flipped(signed(replace(wanted, id=new_command_id()), operator), rng),
        "replayed": lambda: heard,
        "an old counter": lambda: signed(replace(wanted, id=new_command_id(), counter=before), operator),
        "of another boot": lambda: signed(replace(wanted, id=new_command_id(), boot="e" * 16), operator),
        "for another device": lambda: signed(replace(wanted, id=new_command_id(), device="pi-2"), operator),
        "expired": lambda: signed(replace(wanted, id=new_command_id(), until_uptime_s=0.001), operator),
        "not signed": lambda: unsigned(replace(wanted, id=new_command_id())),
        "noise": lambda: rng.randbytes(200),
    }
    names = list(make)
    for n in range(count):
        line._link.send(KIND_COMMAND, randbits(32), make[names[n % len(names)]]())
        time.sleep(0.005)
    ask("info")  # after all of them
    time.sleep(1.5)  # for a second after a forged one no signature is looked at
    info = ask("info")
    assert (info["log_level"], info["last_counter"]) == ("debug", before), "none was obeyed"
    assert ask("report_now") == {"reports": 1}, "the operator still is"
    line.close()
    os.close(slave)
    summary = agent.stop()
    refused = [event for event in summary["events"] if event["kind"] == "command_refused"]
    record("forged, replayed, changed, foreign, expired commands", f"{count} commands, {len(names)} kinds",
           f"obeyed 0; said {len(refused)} times; inferences went on")  # fmt: skip
    assert len(refused) <= len(names) + 2, refused
    assert summary["inferences"] > 0
    assert summary["errors"] == 0


def flipped(data: bytes, rng: random.Random) -> bytes:
    position = rng.randrange(len(data))
    return data[:position] + bytes([data[position] ^ 1 << rng.randrange(8)]) + data[position + 1 :]
