"""Lines for the operator: a trouble is said when it begins and when it ends, not for every report it touches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

Say = Callable[[str], None]
_MAX_REMEMBERED = 1000
_MAX_LINE_CHARS = 500


def printable(text: str, limit: int = 200) -> str:
    """One line without control characters or escape sequences, cut to `limit`: safe for a terminal or a log."""
    cleaned = "".join(character if character.isprintable() else "\ufffd" for character in text[: limit + 1])
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"


@dataclass
class Notices:
    """Says things once. Safe to use from several threads. Keys of troubles are our own, never a stranger's.

    say: takes one line, e.g. `Console.note`.
    """

    say: Say
    _troubles: set[str] = field(default_factory=set, repr=False)
    _told: set[str] = field(default_factory=set, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def trouble(self, key: str, text: str) -> None:
        """`text`, unless the trouble `key` was told already and has not ended since."""
        with self._lock:
            if key in self._troubles:
                return
            self._troubles.add(key)
        self.say(printable(text, _MAX_LINE_CHARS))

    def over(self, key: str, text: str) -> None:
        """`text`, if the trouble `key` had been told."""
        if key not in self._troubles:  # the usual case, without the lock
            return
        with self._lock:
            if key not in self._troubles:
                return
            self._troubles.remove(key)
        self.say(printable(text, _MAX_LINE_CHARS))

    def once(self, key: str, text: str) -> None:
        """`text`, the first time for `key`; nothing more after a thousand keys, since strangers may choose them."""
        with self._lock:
            if key in self._told or len(self._told) >= _MAX_REMEMBERED:
                return
            self._told.add(key)
        self.say(printable(text, _MAX_LINE_CHARS))
