"""What the runs of one conversion have in common, made once: trials differ in a ratio, not in what is known of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from edgeloop_converters.deadline import Deadline
from edgeloop_converters.kept_passes import KeptPasses

T = TypeVar("T")


class SharedWork:
    """Values by key, for as long as the conversion runs. A context manager: what was opened is closed at its end."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}
        self._open = ExitStack()

    def once(self, key: str, make: Callable[[], T]) -> T:
        """The value of `key`: from the first call that asked for it."""
        if key not in self._made:
            self._made[key] = make()
        found: T = self._made[key]
        return found

    def opened(self, key: str, make: Callable[[], AbstractContextManager[T]]) -> T:
        """As `once`, of a context that stays entered."""
        return self.once(key, lambda: self._open.enter_context(make()))

    def __enter__(self) -> SharedWork:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._made.clear()
        self._open.close()


@dataclass(frozen=True)
class Around:
    """What a conversion brings along that is no part of its recipe.

    device: URL that costs are measured on, "" for none; identity: SSH private key for it. tensorboard: folder that
    trainings write their figures to. deadline: of passes over the float model. kept: those that outlive a kill.
    """

    work: SharedWork = field(default_factory=SharedWork)
    device: str = ""
    tensorboard: Path | None = None
    identity: Path | None = None
    deadline: Deadline = field(default_factory=Deadline)
    kept: KeptPasses | None = None


def key_of(*parts: object) -> str:
    """Equal for equal parts: bytes, texts, numbers, and lists and mappings of them."""
    plain = [hashlib.sha256(p).hexdigest() if isinstance(p, bytes) else p for p in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()
