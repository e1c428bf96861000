"""What goes out on a line next: small frames before bulk, and no bulk transfer before another one's turn."""

from __future__ import annotations

from collections import deque

BULK_CHUNK_BYTES = 1024
"""The most that a frame of a bulk transfer carries: about 0.1 s at 115,200 baud, for which it holds up others."""


class Outbox:
    """Encoded frames in the order to write them. A frame that has begun is finished; then every prompt frame goes
    first, in its order, and a frame of each bulk channel in turn. Not for several threads at once."""

    def __init__(self) -> None:
        self._begun = b""
        self._prompt: deque[bytes] = deque()
        self._bulk: dict[int, deque[bytes]] = {}

    def __bool__(self) -> bool:
        return bool(self._begun or self._prompt or self._bulk)

    def put(self, data: bytes) -> None:
        """A frame that others wait for: a batch, an acknowledgement, a command, an answer."""
        self._prompt.append(data)

    def put_bulk(self, channel: int, data: bytes) -> None:
        """A frame of a long transfer; `channel` tells transfers apart."""
        self._bulk.setdefault(channel, deque()).append(data)

    def bulk_waiting(self, channel: int) -> int:
        """Frames of this transfer that have not begun: who sends a long one keeps this small."""
        return len(self._bulk.get(channel, ()))

    def peek(self, limit: int) -> bytes:
        """The next bytes to write, `limit` at most; b"" when there are none."""
        if not self._begun:
            self._begin()
        return self._begun[:limit]

    def written(self, count: int) -> None:
        """So many bytes of the last `peek` are on their way."""
        self._begun = self._begun[count:]

    def _begin(self) -> None:
        if self._prompt:
            self._begun = self._prompt.popleft()
        elif self._bulk:
            channel = next(iter(self._bulk))
            frames = self._bulk.pop(channel)
            self._begun = frames.popleft()
            if frames:
                self._bulk[channel] = frames  # behind the others
