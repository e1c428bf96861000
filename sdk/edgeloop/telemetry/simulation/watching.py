"""What simulated devices see of the far end: what was acknowledged, how quickly, and whether anybody answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from edgeloop.errors import DeviceError
from edgeloop.telemetry.transports import DEFAULT_TIMEOUT_S, Transport
from edgeloop.telemetry.wire.codec import Ack


class Watch:
    """What all workers know of the far end."""

    def __init__(
        self,
        on_acknowledged: Callable[[int], None],
        say: Callable[[str], None],
        patience_s: float,
        first_patience_s: float,
    ) -> None:
        self._on_acknowledged, self._say = on_acknowledged, say
        self._patience_s, self._first_patience_s = patience_s, min(first_patience_s, patience_s)
        self._answered, self._told = False, threading.Event()

    @property
    def patience_s(self) -> float:
        return self._patience_s if self._answered else self._first_patience_s

    def acknowledged(self, reports: int) -> None:
        self._answered = True
        self._on_acknowledged(reports)

    def failed(self, error: DeviceError) -> None:
        if not self._answered and not self._told.is_set():
            self._told.set()
            self._say(f"{error.message}; tried again for {self.patience_s:g} s")


class Watched:
    """A worker's transport: counts and times what goes through it."""

    def __init__(self, transport: Transport, watch: Watch) -> None:
        self._transport, self._watch = transport, watch
        self.latencies_ns: list[int] = []
        self.failures = 0
        self.last_error: DeviceError | None = None
        self.answered_s = time.monotonic()

    @property
    def batch_bytes(self) -> int:
        return self._transport.batch_bytes

    def send(self, batch: Sequence[bytes], timeout_s: float = DEFAULT_TIMEOUT_S, answers: Sequence[bytes] = ()) -> Ack:
        began_ns = time.perf_counter_ns()
        try:
            ack = self._transport.send(batch, timeout_s)  # simulated devices get no commands to answer
        except DeviceError as error:
            self.failures += 1
            self.last_error = error
            self._watch.failed(error)
            raise
        self.latencies_ns.append(time.perf_counter_ns() - began_ns)
        self.answered_s = time.monotonic()
        self._watch.acknowledged(sum(last - first + 1 for _boot, first, last in ack.accepted))
        return ack

    def close(self) -> None:
        self._transport.close()
