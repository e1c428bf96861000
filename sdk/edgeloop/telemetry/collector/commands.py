"""Commands that wait for their devices, and the answers: a table, so that any gateway over one store serves them.

The collector passes on what an operator signed. It holds no operator's key, so it can neither make nor change one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import and_, delete, func, or_, select, update

from edgeloop.errors import DataError, EdgeloopError
from edgeloop.telemetry.collector.chunk_relay import ChunkLine
from edgeloop.telemetry.collector.security.records import reading, writing
from edgeloop.telemetry.commands.codec import decode_answer, decode_envelope
from edgeloop.telemetry.commands.values import Answer
from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.tables.commands import COMMANDS
from edgeloop.telemetry.wire.codec import MAX_COMMANDS

VALID_S = 900.0
"""Handed out no later than that after it was posted."""
_AGAIN_AFTER_S = 30.0  # the acknowledgement that carried it may have been lost
_KEPT_S = 30 * 86400.0
_KNOWN_FOR_S = 1.0


class TooManyError(EdgeloopError):
    """A device has as many commands waiting as it is given at once."""


class DeviceLine(ChunkLine, Protocol):
    """A line on which a device can be reached at once."""

    @property
    def devices(self) -> Collection[str]:
        """Names that answered on it."""

    def push(self, device: str, command: bytes) -> bool:
        """Whether the device is there; returns at once."""


@dataclass(frozen=True)
class QueuedCommand:
    """state: "pending", "delivered", "answered" or "expired". answer: once there is one."""

    id: str
    device: str
    kind: str
    state: str
    made_s: float
    answer: Answer | None = None

    def to_dict(self) -> dict[str, Any]:
        """As `GET /v1/commands/ID` shows it."""
        shown: dict[str, Any] = {
            "id": self.id, "device": self.device, "kind": self.kind, "state": self.state, "made_s": self.made_s,
        }  # fmt: skip
        if self.answer is not None:
            shown |= {"ok": self.answer.is_ok, "answer": dict(self.answer.body), "error": self.answer.error}
        return shown


class CommandQueue:
    """Safe to use from several threads and processes. Raises StoreUnavailableError."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self.lines: list[DeviceLine] = []
        """Where a device may be at the other end."""
        self._database, self._clock = database, clock
        self._lock = threading.Lock()
        self._waited_for: frozenset[str] = frozenset()
        self._known_until_s = 0.0

    def is_on_a_line(self, device: str) -> bool:
        """Whether it answered on a line that is open: it may never have reported."""
        return any(device in line.devices for line in self.lines)

    def line_of(self, device: str) -> DeviceLine | None:
        """Where it answered; None for a device that comes by another way."""
        return next((line for line in self.lines if device in line.devices), None)

    def add(self, device: str, body: bytes) -> QueuedCommand:
        """Take an operator's command for a device. Posting the same again changes nothing.

        DataError for what is no command for this device, TooManyError.
        """
        command = decode_envelope(body).command
        if command.device not in ("", device):
            raise DataError("the command is for another device than its address")
        now, c = self._clock(), COMMANDS.c
        with writing(self._database) as connection:
            connection.execute(delete(COMMANDS).where(c.made_s < now - _KEPT_S))
            known = connection.execute(select(c.body, c.device).where(c.id == command.id)).one_or_none()
            if known is not None and (known.body, known.device) != (body, device):
                raise DataError("there is another command with this id")
            waiting = select(func.count()).where(c.device == device, c.answered_s.is_(None), c.expires_s > now)
            if known is None:
                if connection.execute(waiting).scalar_one() >= MAX_COMMANDS:
                    raise TooManyError(f"{MAX_COMMANDS} commands wait for {device} already")
                row = {
                    "id": command.id, "device": device, "boot": command.boot, "kind": command.kind,
                    "counter": command.counter, "body": body, "made_s": now, "expires_s": now + VALID_S,
                }  # fmt: skip
                connection.execute(COMMANDS.insert(), row)
        self._known_until_s = 0.0
        if any(line.push(device, body) for line in self.lines):
            self._delivered([command.id])
        found = self.get(command.id)
        assert found is not None
        return found

    def pending(self, device: str) -> Sequence[bytes]:
        """What goes to this device now; see `ingest.PendingCommands`. Costs nothing where nothing waits."""
        if device not in self._devices_waited_for():
            return ()
        now, c = self._clock(), COMMANDS.c
        due = or_(c.delivered_s.is_(None), c.delivered_s < now - _AGAIN_AFTER_S)
        wanted = and_(c.device == device, c.answered_s.is_(None), c.expires_s > now, due)
        with reading(self._database) as connection:
            ordered = select(c.id, c.body).where(wanted).order_by(c.made_s, c.counter).limit(MAX_COMMANDS)
            rows = connection.execute(ordered).all()
        if rows:
            self._delivered([row.id for row in rows])
        return [row.body for row in rows]

    def answered(self, device: str, answers: Sequence[bytes]) -> None:
        """Keep a device's answers; see `ingest.OnAnswers`. device: "" where the line does not tell who sent them: the
        random id of a command is known to its device and its operator only. What fits no command is dropped."""
        now, c = self._clock(), COMMANDS.c
        read: list[tuple[Answer, bytes]] = []
        for body in answers:
            with suppress(DataError):
                read.append((decode_answer(body), body))
        if not read:
            return
        with writing(self._database) as connection:
            for answer, body in read:
                its = and_(c.id == answer.id, c.answered_s.is_(None))
                if device:
                    its = and_(its, c.device == device)
                connection.execute(update(COMMANDS).where(its).values(answered_s=now, is_ok=answer.is_ok, answer=body))

    def get(self, command_id: str) -> QueuedCommand | None:
        """One command as it stands; None for one that nobody posted."""
        with reading(self._database) as connection:
            row = connection.execute(select(COMMANDS).where(COMMANDS.c.id == command_id)).one_or_none()
        return None if row is None else self._queued(row)

    def recent(self, device: str, limit: int = 50) -> list[QueuedCommand]:
        """A device's commands, the newest first."""
        c = COMMANDS.c
        with reading(self._database) as connection:
            chosen = select(COMMANDS).where(c.device == device).order_by(c.made_s.desc(), c.id).limit(limit)
            return [self._queued(row) for row in connection.execute(chosen)]

    def last_counter(self, device: str, boot: str) -> int:
        """The highest counter that was posted for this start of the device's agent; 0 for none."""
        c = COMMANDS.c
        with reading(self._database) as connection:
            highest = connection.execute(select(func.max(c.counter)).where(c.device == device, c.boot == boot))
            return int(highest.scalar_one() or 0)

    def _devices_waited_for(self) -> frozenset[str]:
        """Asked anew once a second: another gateway may have taken a command."""
        now = time.monotonic()
        with self._lock:
            if now < self._known_until_s:
                return self._waited_for
            self._known_until_s = now + _KNOWN_FOR_S
        c = COMMANDS.c
        with reading(self._database) as connection:
            chosen = select(c.device).distinct().where(c.answered_s.is_(None), c.expires_s > self._clock())
            self._waited_for = frozenset(connection.execute(chosen).scalars())
        return self._waited_for

    def _delivered(self, ids: Sequence[str]) -> None:
        with writing(self._database) as connection:
            connection.execute(update(COMMANDS).where(COMMANDS.c.id.in_(ids)).values(delivered_s=self._clock()))

    def _queued(self, row: Any) -> QueuedCommand:
        state = "pending" if row.delivered_s is None else "delivered"
        answer = None
        if row.answered_s is not None:
            state, answer = "answered", decode_answer(row.answer)
        elif row.expires_s <= self._clock():
            state = "expired"
        return QueuedCommand(row.id, row.device, row.kind, state, row.made_s, answer)
