"""The executor alone, with models that are none: floods, forgeries and hostile bytes in its own loop."""

from __future__ import annotations

import selectors
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.bundle.keys import SigningKey, load_or_create_signing_key
from edgeloop.bundle.trust import TrustStore
from edgeloop.telemetry.commands.codec import decode_answer
from edgeloop.telemetry.commands.signing import signed, unsigned
from edgeloop.telemetry.commands.values import Answer, Command, new_command_id
from edgeloop_agent.commands.executor import Executor
from edgeloop_agent.commands.log_level import LogLevel

BOOT = "0123456789abcdef"


class Model:
    """What an executor asks of a supervised model."""

    is_paused = False

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.counts: Counter[str] = Counter()
        self.reports = 0

    def state(self) -> dict[str, Any]:
        return Counter()  # whatever is asked for is 0

    def noted(self, kind: str, detail: str) -> None:
        self.events.append((kind, detail))

    def counted(self, name: str) -> None:
        self.counts[name] += 1

    def report_now(self) -> None:
        self.reports += 1

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Room:
    """An executor in a loop that runs when it is told to."""

    def __init__(self, key: SigningKey) -> None:
        self.now_s = 100.0
        self.model = Model()
        self.answers: list[Answer] = []
        self.said: list[str] = []
        self.executor = Executor(
            device="pi-1", boot=BOOT, operators=TrustStore.of(key.public_key), bundles=(),
            log=LogLevel(self.said.append), clock=lambda: self.now_s,
        )  # fmt: skip
        self.selector = selectors.DefaultSelector()

    def send(self, data: bytes) -> None:
        self.executor.take(data, lambda body: self.answers.append(decode_answer(body)))

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            for key, _ in self.selector.select(0):
                key.data()
            self.executor.look()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return load_or_create_signing_key(tmp_path_factory.mktemp("keys"))


@contextmanager
def opened(key: SigningKey) -> Iterator[Room]:
    room = Room(key)
    with room.executor.attending(room.selector, [room.model]):
        yield room
    room.selector.close()


def report_now(counter: int = 1) -> Command:
    return Command("report_now", new_command_id(), {}, "pi-1", BOOT, counter, 600.0)


@settings(max_examples=200)
@given(data=st.binary(max_size=200))
def test_hostile_bytes_are_counted_and_nothing_else(key: SigningKey, data: bytes) -> None:
    with opened(key) as room:
        room.send(data)
        room.turn()
        assert room.model.counts == {"commands_refused": 1}
        assert room.answers == []
        assert [kind for kind, _ in room.model.events] == ["command_refused"]


def test_of_a_flood_sixteen_are_looked_at_one_a_turn_and_the_rest_is_counted(key: SigningKey) -> None:
    with opened(key) as room:
        for _ in range(50):
            room.send(unsigned(Command("ping", new_command_id())))
        room.turn()
        assert len(room.answers) == 1
        room.turn(30)
        assert len(room.answers) == 16
        assert room.model.counts["commands_refused"] == 34
        assert len(room.model.events) == 1
        room.send(unsigned(Command("ping", new_command_id())))
        room.turn()
        assert len(room.answers) == 17, "afterwards it goes on"


def test_after_a_forgery_no_signature_is_looked_at_for_a_second(key: SigningKey, tmp_path: Any) -> None:
    stranger = load_or_create_signing_key(tmp_path / "stranger")
    with opened(key) as room:
        room.send(signed(report_now(), stranger))
        room.send(signed(report_now(2), key))
        room.turn(2)
        assert [a.error[:12] for a in room.answers] == ["it is not si", "a command by"]
        room.now_s += 1.1
        room.send(signed(report_now(2), key))
        room.turn()
        assert room.answers[-1].is_ok
        assert room.model.reports == 1


def test_a_repeat_is_answered_from_the_mailbox_until_that_was_acknowledged(key: SigningKey) -> None:
    with opened(key) as room:
        data = signed(report_now(5), key)
        for _ in range(3):
            room.send(data)
        room.turn(3)
        assert room.model.reports == 1
        assert [a.is_ok for a in room.answers] == [True, True, True]
        room.executor.mailbox.delivered(room.executor.mailbox.waiting())
        room.send(data)
        room.turn()
        assert "counter 5 is not above 5" in room.answers[-1].error
        assert (room.model.reports, room.model.counts["commands_refused"]) == (1, 1)


def test_without_a_way_back_the_answer_waits_for_the_next_batch(key: SigningKey) -> None:
    with opened(key) as room:
        command = Command("ping", new_command_id())
        room.executor.take(unsigned(command), None)
        room.executor.take(unsigned(Command("ping", new_command_id(), device="pi-2")), None)
        room.turn(2)
        (answer,) = room.executor.mailbox.waiting()
        assert decode_answer(answer) == Answer(command.id, {"device": "pi-1", "boot": BOOT})


def test_the_log_level_keeps_what_is_wrong(key: SigningKey) -> None:
    said: list[str] = []
    log = LogLevel(said.append)
    lines = ("digits 7 runs on xnnpack", "warning: a key file is damaged", "cam: fallback: edgetpu -> cpu", "retry: x")
    for level in ("info", "warning", "debug"):
        log.level = level
        for line in (*lines, "command: log_level"):
            log.tell(line)
        log.debug("report 1")
        said.append(level)
    assert said == [
        *lines, "command: log_level", "info", *lines[1:3], "warning", *lines, "command: log_level", "debug: report 1",
        "debug",
    ]  # fmt: skip
