"""Sources whose frames come by themselves: a thread reads, the loop takes the newest frame, the others are counted.

    feed (a camera, a line) --thread--> one place for a frame --loop--> inference

The loop never waits for a frame that is old, a feed that is lost is connected again after 0.5, 1, 2 ... 30 s, and what
happened is said in events. Frames are decoded when they are taken: those that nobody takes cost next to nothing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgeloop.errors import DataError, DeviceError

BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.5, 30.0
SAID_EVERY_S = 60.0
"""A source that breaks again and again is said to be lost so often at most."""
STALLED_AFTER_S = 30.0


class LiveSource(ABC):
    """A Source that the loop must wait for. `read` is called after `wait` said so.

    dropped: frames nobody will see, because a newer one came; captured_ns: `time.perf_counter_ns` of when the frame
    that was read last was there.
    """

    dropped: int = 0
    captured_ns: int = 0

    @abstractmethod
    def wait(self, timeout_s: float) -> bool:
        """True as soon as `read` has something: a frame, an error, the end. False when there was nothing for so long.

        Raises DeviceError where nothing can come any more but from another process.
        """

    @abstractmethod
    def read(self) -> tuple[Any, str] | None:
        """See Source.read."""

    @abstractmethod
    def close(self) -> None: ...

    def take_events(self) -> list[tuple[str, str]]:
        """(kind, detail) of what happened since the last call."""
        return []


class EndOfFeedError(Exception):
    """The feed is over, as a video played like a camera is."""


class Feed(Protocol):
    """Something connected. For one thread alone."""

    def read(self) -> Any:
        """The next item; None when none came for a while (half a second, so that a stop is noticed).

        Raises DataError for an item that is damaged, DeviceError when the connection is lost, EndOfFeedError.
        """

    def close(self) -> None: ...


Say = Callable[[str, str], None]
"""(kind, detail) of an event."""
Decode = Callable[[Any, Say], Any]
"""A feed's item to a frame. Raises DataError."""


def backoff_s(failed: int) -> float:
    """Seconds to wait before the next attempt, after so many that failed in a row."""
    return min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(failed - 1, 16))


def failed_in_a_row(before: int, lived_s: float) -> int:
    """With this one: a connection that lived for twice the pause before it was no failure to connect."""
    return 1 if before and lived_s > 2.0 * backoff_s(before) else before + 1


@dataclass
class _Shared:
    """What the thread gives and the loop takes, under one lock."""

    item: Any = None
    has_item: bool = False
    number: int = 0
    captured_ns: int = 0
    damaged: int = 0
    reason: str = ""
    is_over: bool = False
    events: list[tuple[str, str]] = field(default_factory=list)


class Newest(LiveSource):
    """The newest item of a feed, whatever happens to it."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], Feed],
        decode: Decode,
        *,
        stalled_after_s: float = STALLED_AFTER_S,
    ) -> None:
        """name: the source, for frames' names and events; connect: raises DeviceError; decode: on the taker's thread;
        stalled_after_s: connect and read must come back within that.
        """
        self._name = name
        self._connect = connect
        self._decode = decode
        self._stalled_after_s = stalled_after_s
        self._shared = _Shared()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._called_s = 0.0  # when the thread went into a call that may never come back; 0: it is in none
        self._connected_s = self._lost_s = 0.0  # since when it is connected, or lost; 0: it is not
        self._said_s, self._is_said = float("-inf"), False  # that it is lost
        self._thread = threading.Thread(target=self._run, name=f"source {name}", daemon=True)
        self._thread.start()

    # -- the loop's side

    def wait(self, timeout_s: float) -> bool:
        shared = self._shared
        with self._changed:
            if self._changed.wait_for(lambda: shared.has_item or shared.damaged or shared.is_over, timeout_s):
                return True
        called_s = self._called_s
        if called_s and time.monotonic() - called_s > self._stalled_after_s:
            raise DeviceError(
                f"source {self._name}: no answer for {self._stalled_after_s:g} s", hint="the agent connects it anew"
            )
        return False

    def read(self) -> tuple[Any, str] | None:
        while not self.wait(0.5):
            pass
        shared = self._shared
        with self._changed:
            if shared.damaged:
                shared.damaged -= 1
                raise DataError(shared.reason)
            if not shared.has_item:
                return None
            item, number, self.captured_ns = shared.item, shared.number, shared.captured_ns
            shared.item, shared.has_item = None, False
        try:
            return self._decode(item, self._say), f"{self._name}#{number}"
        except DataError:
            raise
        except Exception as error:  # whatever a damaged frame provokes (cv2.error among them)
            raise DataError(f"source {self._name}: {' '.join(str(error).split())[:200]}") from error

    def take_events(self) -> list[tuple[str, str]]:
        if not self._shared.events:
            return []
        with self._changed:
            events, self._shared.events = self._shared.events, []
        return events

    def close(self) -> None:
        # The feed is closed by its own thread: releasing a camera that another thread reads from is a crash. One that
        # is stuck in a library ends with the process.
        self._closing.set()
        self._thread.join(timeout=1.0)

    # -- the thread's side

    def _run(self) -> None:
        failed = 0
        while not self._closing.is_set():
            self._connected_s = 0.0
            try:
                self._stay_connected()
                return
            except DeviceError as error:
                reason = str(error)
            except Exception as error:  # a library's own kinds; the thread must not end of them
                reason = f"source {self._name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            if self._closing.is_set():
                return
            now_s = time.monotonic()
            self._lost_s = self._lost_s or now_s
            if not self._is_said and now_s - self._said_s >= SAID_EVERY_S:
                self._said_s, self._is_said = now_s, True
                self._say("source_lost", f"{reason}; it is tried again")
            failed = failed_in_a_row(failed, now_s - self._connected_s if self._connected_s else 0.0)
            self._closing.wait(backoff_s(failed))

    def _stay_connected(self) -> None:
        """Until the feed is over or this source is closed. Raises whatever ends the connection."""
        feed = self._call(self._connect)
        self._connected_s = time.monotonic()
        try:
            self._pump(feed)
        except EndOfFeedError:
            with self._changed:
                self._shared.is_over = True
                self._changed.notify_all()
        finally:
            with contextlib.suppress(Exception):
                feed.close()

    def _pump(self, feed: Feed) -> None:
        shared = self._shared
        while not self._closing.is_set():
            try:
                item = self._call(feed.read)
            except DataError as error:
                with self._changed:
                    shared.damaged += 1
                    shared.reason = error.message
                    self._changed.notify_all()
                continue
            if item is None:
                continue
            captured_ns = time.perf_counter_ns()
            if self._is_said:
                self._say("source_back", f"{self._name} after {time.monotonic() - self._lost_s:.1f} s")
            self._lost_s, self._is_said = 0.0, False
            with self._changed:
                self.dropped += shared.has_item
                shared.item, shared.has_item, shared.captured_ns = item, True, captured_ns
                shared.number += 1
                self._changed.notify_all()

    def _call(self, function: Callable[[], Any]) -> Any:
        self._called_s = time.monotonic()
        try:
            return function()
        finally:
            self._called_s = 0.0

    def _say(self, kind: str, detail: str) -> None:
        with self._changed:
            if len(self._shared.events) < 64:
                self._shared.events.append((kind, detail))
            self._changed.notify_all()
