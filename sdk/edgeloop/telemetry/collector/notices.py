"""Lines for the operator: a trouble is said when it begins and when it ends, not for every report it touches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

Say = Callable[[str], None]
_MAX_OF_A_KIND = 200
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
    _told: dict[str, set[str]] = field(default_factory=dict, repr=False)
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
        """`text`, the first time for `key`, whose first word is its kind and our own. Strangers may choose the rest:
        after many of one kind no more of it are said, and the other kinds still are."""
        kind = key.partition(" ")[0]
        with self._lock:
            told = self._told.setdefault(kind, set())
            if key in told or len(told) >= _MAX_OF_A_KIND:
                return
            told.add(key)
            is_last = len(told) == _MAX_OF_A_KIND
        self.say(printable(text, _MAX_LINE_CHARS))
        if is_last:
            self.say(f"no more is said of this kind ({kind}) after {_MAX_OF_A_KIND}; /metrics counts on")
