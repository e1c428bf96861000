"""The device's side of a deploy over a line, without a line: offers, chunks, who is kept out, what the door said."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from edgeloop.bundle import Bundle
from edgeloop.deploy.card import digest_of
from edgeloop.errors import DeviceError, UsageError
from edgeloop.telemetry.commands.values import Command, new_command_id
from edgeloop.telemetry.serial_link.chunks import (
    CHUNK_BYTES,
    COMPLETE,
    FAILED,
    UNKNOWN,
    Arrived,
    decode_arrived,
    encode_chunk,
)
from edgeloop_agent.delivery import incoming, incoming_files
from edgeloop_agent.delivery.apply import model_folder, version_of
from edgeloop_agent.delivery.incoming import LineDelivery
from edgeloop_agent.delivery.update import Device
from support.agents import make_bundle

DATA = os.urandom(5 * CHUNK_BYTES + 7)


class Side:
    """A device's delivery, and what it says."""

    def __init__(self, state: Path) -> None:
        self.events: list[tuple[str, str]] = []
        self.delivery = LineDelivery(state, ("--state", str(state), "--rehearsal", "0.1"))
        self.delivery.say = lambda kind, detail: self.events.append((kind, detail))

    def ask(self, kind: str, **arguments: Any) -> dict[str, Any]:
        return self.delivery.handlers[kind](Command(kind, new_command_id(), arguments))

    def offer(self, data: bytes = DATA, **more: Any) -> dict[str, Any]:
        sha256 = hashlib.sha256(data).hexdigest()
        return self.ask("deploy", **{"offer": token_hex(8), "sha256": sha256, "bytes": len(data), **more})

    def send(self, transfer: int, number: int, data: bytes = DATA) -> Arrived:
        answers: list[bytes] = []
        body = encode_chunk(number, data[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES])
        self.delivery.take_chunk(transfer, body, answers.append)
        return decode_arrived(answers[-1]) if answers else Arrived()

    def settle(self) -> None:
        """Until no door is at work."""
        while self.delivery.is_at_the_door:
            self.delivery.look(is_quiet=True)
            time.sleep(0.02)

    def wait(self, offer: str) -> dict[str, Any]:
        for _ in range(1000):
            self.delivery.look(is_quiet=True)
            if (verdict := self.ask("delivery", offer=offer)["verdict"]) is not None:
                return dict(verdict)
            time.sleep(0.02)
        raise AssertionError("no verdict")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Version 7 is committed."""
    state, path = tmp_path / "state", make_bundle(tmp_path / "7.bundle")
    folder, version = model_folder(state, "digits"), version_of(Bundle.open(path))
    folder.take_in(version, [path.read_bytes()])
    folder.begin_trial(version)
    folder.commit()
    return state


@pytest.fixture
def side(state: Path) -> Iterator[Side]:
    made = Side(state)
    yield made
    made.delivery.close()


def test_chunks_of_nothing_that_was_offered_are_not_kept(side: Side, state: Path) -> None:
    assert side.send(5, 0).state == UNKNOWN
    side.delivery.take_chunk(5, b"", lambda _answer: None)
    assert not (state / "incoming").exists()


def test_another_bundle_waits_until_the_first_has_stopped(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    first = side.offer()["transfer"]
    side.send(first, 0)
    with pytest.raises(DeviceError, match="another bundle is being sent"):
        side.offer(b"another")
    again = side.offer()  # the same one: its host was started again
    assert decode_arrived(bytes.fromhex(again["arrived"])).first_missing == 1
    assert side.send(first, 1).state == UNKNOWN
    monkeypatch.setattr(incoming, "_BUSY_S", 0.0)
    assert side.offer(b"another")["transfer"] != first


def test_a_disk_without_room_takes_nothing_and_one_that_fails_says_so(
    side: Side, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, pytest.raises(DeviceError, match="the disk has no room"):
        patched.setattr(incoming_files, "RESERVE_BYTES", 2**50)
        side.offer()
    assert not list((state / "incoming").glob("*.part"))
    transfer = side.offer()["transfer"]

    def full(_self: Any, _number: int, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(incoming_files.PartialFile, "put", full)
    assert side.send(transfer, 0).state == FAILED


def test_what_is_no_bundle_or_another_than_was_signed_for_is_told_once(side: Side, state: Path) -> None:
    for sha256, reason in ((hashlib.sha256(DATA).hexdigest(), "bundle"), ("ab" * 32, "is not what was sent")):
        offer = token_hex(8)
        transfer = side.offer(offer=offer, sha256=sha256)["transfer"]
        for number in range(6):
            arrived = side.send(transfer, number)
        assert arrived.state == COMPLETE
        with pytest.raises(DeviceError, match="at the door"):
            side.offer(b"another")
        verdict = side.wait(offer)
        assert verdict["state"] == "failed" and reason in verdict["reason"], verdict
        side.settle()
        assert reason in side.events[-1][1]
    assert [kind for kind, _detail in side.events] == ["update_refused"] * 2
    assert not list((state / "incoming").glob("*.part"))


def test_while_something_is_measured_the_door_waits(side: Side, state: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "8.bundle", version=8).read_bytes()
    offer = token_hex(8)
    transfer = side.offer(bundle, offer=offer)["transfer"]
    for number in range(-(-len(bundle) // CHUNK_BYTES)):
        side.send(transfer, number, bundle)
    side.delivery.look(is_quiet=False)
    assert side.delivery.is_at_the_door and side.delivery._door is None
    assert side.wait(offer)["state"] == "trial"
    standing = side.ask("delivery")["models"][0]
    assert (standing["running"]["number"], standing["on_trial"]) == (8, True)


def test_a_door_that_is_killed_is_told_and_not_tried_for_ever(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "start_door", lambda _order: subprocess.Popen(["sh", "-c", "kill -9 $$"]))
    offer = token_hex(8)
    transfer = side.offer(offer=offer)["transfer"]
    for number in range(6):
        side.send(transfer, number)
    verdict = side.wait(offer)
    assert (verdict["state"], verdict["exit_code"]) == ("failed", 3)
    assert side.events == [("update_refused", "the door ended without a verdict")]


def test_what_it_is_said_to_be_is_judged_before_it_comes(side: Side, state: Path, tmp_path: Path) -> None:
    def judged(version: int, **more: Any) -> dict[str, Any]:
        offer = token_hex(8)
        answer = side.offer(offer=offer, name="digits", version=version, **{"digest": "0" * 16, **more})
        return side.wait(offer) if answer.get("judged") else answer

    assert judged(6)["reason"] == "version 6 is older than 7, which ran here"
    assert judged(7, digest=digest_of(Bundle.open(tmp_path / "7.bundle")))["state"] == "there"
    assert "another version 7" in judged(7)["reason"]
    assert "transfer" in judged(6, may_go_back=True)
    assert "transfer" in judged(8)
    assert "transfer" in side.offer(name="../..", version=1, digest="x")


def test_a_bundle_for_another_target_is_not_sent(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Device("rpi4", frozenset({"generic-x86-64"}), 2**40)
    monkeypatch.setattr(incoming, "this_device", lambda *_: here)
    offer = token_hex(8)
    told = side.offer(offer=offer, name="digits", version=9, digest="0" * 16, target="generic-x86-64")
    assert told == {"judged": True}
    assert side.wait(offer)["reason"] == "it was made for generic-x86-64, this is rpi4"


def test_a_rollback_needs_something_to_go_back_to(side: Side, state: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="digits"):
        side.ask("rollback")
    with pytest.raises(UsageError):
        side.ask("rollback", name="../installed/digits")
    with pytest.raises(UsageError, match="nothing came in"):
        Side(tmp_path / "empty").ask("rollback")
