"""Signals that ask a program to stop, counted, waking up the loop that waits in a selector."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Iterator


class StopSignals:
    """`count`: how often a stop was asked for; the first asks for a clean one, a second does not wait.

    asked_s: when it was first, on the monotonic clock.
    """

    def __init__(self) -> None:
        self.count = 0
        self.asked_s: float | None = None

    def ask(self) -> None:
        self.count += 1
        if self.asked_s is None:
            self.asked_s = time.monotonic()

    @contextlib.contextmanager
    def wake_up(self, selector: selectors.BaseSelector) -> Iterator[None]:
        """SIGTERM, SIGINT and SIGHUP are counted and end a `select`. The key's data is a function to call then."""
        reading, writing = os.pipe()
        for fd in (reading, writing):
            os.set_blocking(fd, False)

        def asked(*_: object) -> None:
            self.ask()

        def drain() -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(reading, 4096)

        numbers = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # else it runs under nohup
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, asked) for number in numbers}
        before_fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        selector.register(reading, selectors.EVENT_READ, drain)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before_fd)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(reading)
            os.close(writing)
