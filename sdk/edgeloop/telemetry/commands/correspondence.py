"""A device's letters: answers go out with the next batch, commands come in with its acknowledgement."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from edgeloop.errors import EdgeloopError
from edgeloop.telemetry.transports import DEFAULT_TIMEOUT_S, Transport
from edgeloop.telemetry.wire.codec import MAX_ANSWERS, Ack

Reply = Callable[[bytes], None]
OnCommand = Callable[[bytes, "Reply | None"], None]
"""Takes a command's envelope, and what takes its answer at once where the way it came has that. Must not wait."""
OnChunk = Callable[[int, bytes, Reply], None]
"""Takes a transfer's id and a chunk of its file, and what takes its acknowledgement. Must not wait."""


class Mailbox:
    """Answers that no collector has acknowledged yet, by the id of their command; of more than MAX_ANSWERS the oldest
    go. For several threads."""

    def __init__(self) -> None:
        self.on_put: Callable[[], None] = lambda: None
        self._answers: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def put(self, command_id: str, answer: bytes) -> None:
        """Keep an encoded answer until it is acknowledged."""
        with self._lock:
            self._answers[command_id] = answer
            while len(self._answers) > MAX_ANSWERS:
                del self._answers[next(iter(self._answers))]
        self.on_put()

    def get(self, command_id: str) -> bytes | None:
        """The answer, while it waits."""
        with self._lock:
            return self._answers.get(command_id)

    def waiting(self) -> tuple[bytes, ...]:
        """All of them, oldest first."""
        with self._lock:
            return tuple(self._answers.values())

    def delivered(self, answers: Sequence[bytes]) -> None:
        """These were acknowledged."""
        with self._lock:
            self._answers = {name: answer for name, answer in self._answers.items() if answer not in answers}


class CorrespondingTransport:
    """A transport whose batches carry the mailbox's answers, and whose acknowledgements' commands are passed on."""

    def __init__(
        self, transport: Transport, mailbox: Mailbox, on_command: OnCommand, on_chunk: OnChunk | None = None
    ) -> None:
        self._transport, self._mailbox, self._on_command = transport, mailbox, on_command
        self._listen = getattr(transport, "listen", None)
        if self._listen is not None:
            self._listen(on_command, on_chunk)

    @property
    def batch_bytes(self) -> int:
        """See `Transport.batch_bytes`."""
        return self._transport.batch_bytes

    def send(self, batch: Sequence[bytes], timeout_s: float = DEFAULT_TIMEOUT_S, answers: Sequence[bytes] = ()) -> Ack:
        """See `Transport.send`; the mailbox's answers go along."""
        answers = (*answers, *self._mailbox.waiting())[:MAX_ANSWERS]
        ack = self._transport.send(batch, timeout_s, answers) if answers else self._transport.send(batch, timeout_s)
        self._mailbox.delivered(answers)
        for command in ack.commands:
            self._on_command(command, None)
        return ack

    def post_answers(self, budget_s: float | None = None) -> bool:
        """Send the answers that wait, without reports. False where that failed: they still wait."""
        if not self._mailbox.waiting():
            return True
        try:
            self.send((), DEFAULT_TIMEOUT_S if budget_s is None else min(budget_s, DEFAULT_TIMEOUT_S))
        except EdgeloopError:
            return False
        return True

    def hang_up(self) -> None:
        """Let go of a line that is listened on, also while another thread waits there for an answer, which fails."""
        if self._listen is not None:
            self._transport.close()

    def close(self) -> None:
        """See `Transport.close`."""
        self._transport.close()
