"""How much a line carries, learned from its acknowledgements: the size of the next batch, and whether it keeps up.

Decisions only; `delivery` acts on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeloop.telemetry.wire.codec import MAX_BATCH_BYTES

TARGET_S = 2.0
"""A batch is as large as is acknowledged in about this time: lost work on a bad line is small, waiting is short."""
MOST_S = 5.0
"""Where a small batch takes as long as a large one, as the far end is slow to answer, it may take up to this."""
SMALLEST_BYTES = 256
MAX_BACKLOG_S = 600.0
"""Reports that were never sent are folded when sending them would take longer, and more come than go."""
_WATCHED_S = 60.0
_LOOK_EVERY_S = 5.0
_KEEPS = 0.7  # of what was measured before, at each acknowledgement


@dataclass
class Pace:
    """One line's. clock: monotonic seconds."""

    clock: Callable[[], float]
    batch_bytes: int = MAX_BATCH_BYTES
    bytes_per_s: float = 0.0
    """0.0 until something was acknowledged."""
    _watched_since_s: float | None = None
    _came: int = 0
    _went: int = 0
    _look_s: float = -1e9
    _floor_s: float = 0.0
    _last_bytes: int = 0
    _last_s: float = 0.0

    def acknowledged(self, sent_bytes: int, took_s: float) -> None:
        """A batch was: the next one is larger or smaller by how long it took."""
        took_s = max(took_s, 1e-6)
        rate = sent_bytes / took_s
        self.bytes_per_s = rate if not self.bytes_per_s else _KEEPS * self.bytes_per_s + (1 - _KEEPS) * rate
        if sent_bytes < 0.75 * self._last_bytes and took_s > 0.75 * self._last_s:
            self._floor_s = took_s  # less took as long: it is the far end that is slow, and not the line
        self._floor_s = min(self._floor_s, took_s)
        self._last_bytes, self._last_s = sent_bytes, took_s
        limit_s = min(TARGET_S + 2.0 * self._floor_s, MOST_S)
        if took_s > limit_s:
            self.batch_bytes = max(int(sent_bytes * limit_s / took_s), SMALLEST_BYTES)
        elif sent_bytes > self.batch_bytes // 2:  # it says something of larger ones
            self.batch_bytes = min(int(self.batch_bytes * min(limit_s / took_s, 2.0)), MAX_BATCH_BYTES)

    def failed(self, sent_bytes: int) -> None:
        """A batch was not acknowledged: the next one is half of it, and they grow from there."""
        if sent_bytes:
            self.batch_bytes = max(min(self.batch_bytes, sent_bytes) // 2, SMALLEST_BYTES)

    def may_look(self) -> bool:
        """Whether it is time to ask for `backlog_limit_bytes`: counting what waits costs something."""
        if self.clock() < self._look_s:
            return False
        self._look_s = self.clock() + _LOOK_EVERY_S
        return True

    def backlog_limit_bytes(self, waiting_bytes: int, came: int, went: int) -> int | None:
        """How much may wait, where that is less than what does and the line does not keep up; else None.

        came, went: reports that ever came into the spool, and that ever left it.
        """
        now_s = self.clock()
        limit_bytes = int(self.bytes_per_s * MAX_BACKLOG_S)
        if not self.bytes_per_s or waiting_bytes <= limit_bytes:
            self._watched_since_s = None
            return None
        if self._watched_since_s is None:
            self._watched_since_s, self._came, self._went = now_s, came, went
        if now_s - self._watched_since_s < _WATCHED_S:
            return None
        keeps_up = went - self._went > came - self._came
        self._watched_since_s, self._came, self._went = now_s, came, went
        return None if keeps_up else limit_bytes
