"""The same work on many hosts: some first, then the rest a few at a time, and no further once too many have failed.

Knows nothing of devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import Queue
from threading import Thread
from time import monotonic
from typing import Generic, TypeVar

from edgeloop.errors import EdgeloopError, UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class Pace:
    """canary: so many hosts first, one after the other, and all of them must be well. parallel: of the rest at once.
    max_failures: with more of them no further host is begun."""

    parallel: int = 4
    canary: int = 0
    max_failures: int = 0

    def __post_init__(self) -> None:
        if self.parallel < 1 or self.canary < 0 or self.max_failures < 0:
            raise UsageError("--parallel must be at least 1, --canary and --max-failures at least 0")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """Of one host: what came of it, or its error, or neither where it was not begun."""

    url: str
    done: T | None = None
    error: EdgeloopError | None = None
    seconds: float = 0.0


def roll_out(
    urls: Sequence[str], work: Callable[[str], T], pace: Pace, told: Callable[[Outcome[T]], None] = lambda _o: None
) -> list[Outcome[T]]:
    """One outcome per URL, in their order; `told` gets each as it comes, on this thread. Raises UsageError for a URL
    that is given twice. An interrupt begins no further host and waits for none."""
    if len(set(urls)) != len(urls):
        raise UsageError("a host is named twice")
    outcomes: dict[str, Outcome[T]] = {}

    def note(outcome: Outcome[T]) -> None:
        outcomes[outcome.url] = outcome
        told(outcome)

    canaries = urls[: pace.canary]
    for url in canaries:
        note(_one(url, work))
        if outcomes[url].error is not None:
            return _all(urls, outcomes)
    for outcome in _at_once(urls[len(canaries) :], work, pace):
        note(outcome)
    return _all(urls, outcomes)


def _all(urls: Sequence[str], outcomes: dict[str, Outcome[T]]) -> list[Outcome[T]]:
    return [outcomes.get(url, Outcome(url)) for url in urls]


def _one(url: str, work: Callable[[str], T]) -> Outcome[T]:
    began_s = monotonic()
    try:
        return Outcome(url, done=work(url), seconds=monotonic() - began_s)
    except EdgeloopError as error:
        return Outcome(url, error=error, seconds=monotonic() - began_s)


def _at_once(urls: Sequence[str], work: Callable[[str], T], pace: Pace) -> Iterator[Outcome[T]]:
    if len(urls) == 1:  # on this thread: an interrupt reaches it
        yield _one(urls[0], work)
        return
    # Daemon threads: an interrupt does not wait for hosts that are under way.
    ended: Queue[Outcome[T] | Exception] = Queue()
    waiting, running, failures = list(urls), 0, 0
    while waiting or running:
        while waiting and running < pace.parallel:
            Thread(target=_put_one, args=(ended, waiting.pop(0), work), daemon=True).start()
            running += 1
        outcome = ended.get()
        running -= 1
        if isinstance(outcome, Exception):
            raise outcome
        failures += outcome.error is not None
        if failures > pace.max_failures:
            waiting.clear()
        yield outcome


def _put_one(ended: Queue[Outcome[T] | Exception], url: str, work: Callable[[str], T]) -> None:
    try:
        ended.put(_one(url, work))
    except Exception as error:  # a defect: for the thread that waits
        ended.put(error)
