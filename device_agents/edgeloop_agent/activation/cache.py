"""Cache level L2: opened models of several variants, within a memory budget. (L1 is the gate, L3 the staged bundle.)"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from edgeloop.errors import EdgeloopError

if TYPE_CHECKING:
    from edgeloop_agent.worker.pipeline import Pipeline


class WarmModels:
    """Pipelines by variant; the one that was used longest ago goes first. One thread uses them, another may open more.

    open_one: opens and tests a variant, raises EdgeloopError. bytes_of: what each variant takes in memory, about.
    """

    def __init__(self, open_one: Callable[[str], Pipeline], bytes_of: Mapping[str, int], budget_bytes: int) -> None:
        self._open_one = open_one
        self._bytes_of = bytes_of
        self._budget_bytes = budget_bytes
        self._open: OrderedDict[str, Pipeline] = OrderedDict()  # used last: at the end
        self._pinned: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._opening: threading.Thread | None = None
        self.hits = self.misses = 0
        self.unusable: dict[str, str] = {}
        """Variants that could not be opened, and why."""

    @property
    def ready(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._open)

    def put(self, name: str, pipeline: Pipeline) -> None:
        """One that is open already."""
        with self._lock:
            self._open[name] = pipeline
            self._open.move_to_end(name)
            gone = self._evicted()
        for old in gone:
            old.close()

    def fits(self, name: str) -> bool:
        """Whether it can be opened without closing another."""
        with self._lock:
            return self._taken_bytes() + self._bytes_of[name] <= self._budget_bytes

    def use(self, names: Iterable[str]) -> list[Pipeline]:
        """The pipelines, opened where they are not; they stay open until the next call. Raises EdgeloopError."""
        names = tuple(names)
        with self._lock:
            self._pinned = frozenset(names)
        return [self._get(name) for name in names]

    def preload(self, names: Iterable[str]) -> None:
        """Open what is missing on another thread; one such wish at a time, others are passed over."""
        if self._opening is not None and self._opening.is_alive():
            return
        missing = [n for n in names if n not in self.ready and n not in self.unusable]
        if missing:
            self._opening = threading.Thread(target=self._preload, args=(missing,), name="preload", daemon=True)
            self._opening.start()

    def open_quietly(self, name: str) -> None:
        """Where it cannot be opened, `unusable` says why."""
        try:
            self.put(name, self._open_one(name))
        except EdgeloopError as error:
            self.unusable[name] = error.message

    def wait(self) -> None:
        """Wait for what is being opened."""
        if self._opening is not None:
            self._opening.join(timeout=5)

    def close(self) -> None:
        self.wait()
        with self._lock:
            every, self._open = list(self._open.values()), OrderedDict()
        for pipeline in every:
            pipeline.close()

    def _get(self, name: str) -> Pipeline:
        with self._lock:
            pipeline = self._open.get(name)
            if pipeline is not None:
                self._open.move_to_end(name)
                self.hits += 1
                return pipeline
            self.misses += 1
        pipeline = self._open_one(name)
        self.put(name, pipeline)
        return pipeline

    def _preload(self, names: list[str]) -> None:
        for name in names:
            with self._lock:
                self.misses += 1
            self.open_quietly(name)

    def _taken_bytes(self) -> int:
        return sum(self._bytes_of[name] for name in self._open)

    def _evicted(self) -> list[Pipeline]:
        """Those that the budget has no room for. Neither the last one nor those in use."""
        gone: list[Pipeline] = []
        for name in list(self._open)[:-1]:
            if self._taken_bytes() <= self._budget_bytes:
                break
            if name not in self._pinned:
                gone.append(self._open.pop(name))
        return gone
