"""Progress of long work, as an interface: library code reports, only the CLI draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """`with progress.step("calibrate", total=512) as advance: advance(1)`; `total=None` when it is not known."""

    def step(self, label: str, total: int | None = None) -> AbstractContextManager[Advance]: ...

    def note(self, text: str) -> None:
        """One line the user should see (a warning, a decision taken)."""


class SilentProgress:
    """Draws nothing; keeps the notes, which a report may want to show."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @contextmanager
    def step(self, label: str, total: int | None = None) -> Iterator[Advance]:
        yield lambda _count: None

    def note(self, text: str) -> None:
        self.notes.append(text)
