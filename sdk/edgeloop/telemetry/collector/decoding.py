"""Decoding reports in a process of its own, once they come in numbers: it is most of what a report costs, and in the
collector's process it takes the interpreter from the store and the HTTP server.

The process keeps nothing and opens nothing: encoded reports go in, what `decode_together` makes of them comes out. When
it ends, whatever the reason, the reports in hand are decoded here: no sender notices.
"""

from __future__ import annotations

import marshal
import os
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from edgeloop.errors import DataError
from edgeloop.runtime.child import child_command
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import Event, Report
from edgeloop.telemetry.wire.latency import WireLatency, wires_of
from edgeloop.telemetry.wire.together import Decoded, LatencySums, decode_together, sums_of

MUCH_PER_S = 1500.0
"""Reports a second, over a second or more, from which on a process of its own is worth its memory."""
_WORTH_SENDING = 16
"""Fewer reports at once are decoded here: the way there and back costs as much."""
_PATIENCE_S = 30.0
_AGAIN_AFTER_S = 60.0
_REAPED_S = 0.5
_CODE = "from edgeloop.telemetry.collector.decoding import main; main()"
_LENGTH = struct.Struct("<I")


class Here:
    """Decodes in this process."""

    elsewhere = False
    """Whether another process is at work, so that a thread of this one can wait for it while another one goes on."""

    def together(self, bodies: Sequence[bytes]) -> Decoded:
        """As `decode_together`."""
        return decode_together(bodies)

    def stop(self) -> None:
        """May be called twice."""


@dataclass
class WhereItFits(Here):
    """Decodes here while few reports come, in a process of its own while there are many. Safe between threads.

    say: told when the process ended by itself.
    """

    say: Callable[[str], None] = lambda _line: None
    much_per_s: float = MUCH_PER_S
    clock: Callable[[], float] = time.monotonic
    _helper: _Helper | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _began_s: float = field(default=0.0, repr=False)
    _came: int = field(default=0, repr=False)
    _not_before_s: float = field(default=0.0, repr=False)
    _stopped: bool = field(default=False, repr=False)

    @property
    def elsewhere(self) -> bool:  # type: ignore[override]
        helper = self._helper
        return helper is not None and helper.ready

    def together(self, bodies: Sequence[bytes]) -> Decoded:
        self._begin_if_there_are_many(len(bodies))
        helper = self._helper
        if helper is not None and len(bodies) >= _WORTH_SENDING:
            try:
                if helper.ready or helper.becomes_ready():
                    return helper.decode(bodies)
            except (OSError, EOFError, ValueError, TypeError):
                self._give_up(helper)
        return decode_together(bodies)

    def stop(self) -> None:
        with self._lock:
            self._stopped, helper, self._helper = True, self._helper, None
        if helper is not None:
            helper.kill()
            helper.end()

    def _begin_if_there_are_many(self, more: int) -> None:
        with self._lock:
            now = self.clock()
            self._came += more
            passed_s = now - self._began_s
            if passed_s < 1.0:
                return
            many = self._came >= self.much_per_s * passed_s
            self._began_s, self._came = now, 0
            if many and self._helper is None and now >= self._not_before_s and not self._stopped and _has_room():
                with suppress(OSError):
                    self._helper = _Helper.start()

    def _give_up(self, helper: _Helper) -> None:
        with self._lock:
            if self._helper is not helper:  # another thread was quicker, or it was stopped
                return
            self._helper, self._not_before_s = None, self.clock() + _AGAIN_AFTER_S
        self.say(f"the process that decodes reports {helper.end()}; they are decoded in the collector's for a while")


def _has_room() -> bool:
    """On a single core a second process only costs."""
    return len(os.sched_getaffinity(0)) > 1


# -- the process, from here


class _Helper:
    def __init__(self, process: subprocess.Popen[bytes], line: socket.socket) -> None:
        self._process, self._line = process, line
        self._turn = threading.Lock()
        self.ready = False

    @classmethod
    def start(cls) -> _Helper:
        near, far = socket.socketpair()
        with far:
            process = subprocess.Popen(
                child_command(_CODE), stdin=far.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True,  # a terminal's Ctrl-C reaches the collector alone
            )  # fmt: skip
        near.settimeout(_PATIENCE_S)
        return cls(process, near)

    def becomes_ready(self) -> bool:
        """It says so once; until then nobody waits for it. OSError or EOFError when it came to nothing."""
        with self._turn:
            if not self.ready and _has_come(self._line):
                self.ready = _receive(self._line) is True
            return self.ready

    def decode(self, bodies: Sequence[bytes]) -> Decoded:
        with self._turn:
            try:
                _send(self._line, list(bodies))
                answer = _receive(self._line)
            except BaseException:
                self._line.close()  # a late answer must not be taken for that to the next one's question
                raise
        return _unpacked(*answer)

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> str:
        """What became of it by itself."""
        try:
            code = self._process.wait(_REAPED_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
            found = "did not answer"
        else:
            found = f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
        self._line.close()
        return found


def _has_come(line: socket.socket) -> bool:
    poll = select.poll()
    poll.register(line, select.POLLIN)
    return bool(poll.poll(0))


def _send(line: socket.socket, value: Any) -> None:
    data = marshal.dumps(value)
    line.sendall(_LENGTH.pack(len(data)) + data)


def _receive(line: socket.socket) -> Any:
    return marshal.loads(_exactly(line, _LENGTH.unpack(_exactly(line, _LENGTH.size))[0]))


def _exactly(line: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = line.recv_into(view)
        if not count:
            raise EOFError("it was killed or failed")
        view = view[count:]
    return data


# -- what goes over the line: plain values, of which marshal makes the least work


@dataclass(frozen=True)
class _Returned:
    """`Together` of another process. all_sums: the latency of all reports."""

    reports: Sequence[Report | DataError]
    all_sums: LatencySums

    def latency_sums(self, of: Iterable[Report]) -> LatencySums:
        wanted = list(of)
        if len(wanted) == sum(isinstance(each, Report) for each in self.reports):
            return self.all_sums
        return sums_of(wanted)


def _packed(decoded: Decoded) -> tuple[list[Any], list[Any]]:
    reports = [each for each in decoded.reports if isinstance(each, Report)]
    sums = [(model, stage, h.to_wire()) for (model, stage), h in decoded.latency_sums(reports).items()]
    return [each.message if isinstance(each, DataError) else _fields(each) for each in decoded.reports], sums


def _fields(report: Report) -> dict[str, object]:
    events = [(event.kind, event.time_s, event.detail) for event in report.events]
    return {**vars(report), "latency": dict(wires_of(report.latency)), "events": events}


def _unpacked(entries: list[Any], sums: list[Any]) -> _Returned:
    all_sums = {(model, stage): Histogram.from_wire(wire, max_count=None) for model, stage, wire in sums}
    return _Returned([DataError(each) if isinstance(each, str) else _report(each) for each in entries], all_sums)


def _report(fields: dict[str, Any]) -> Report:
    fields["latency"] = WireLatency(fields["latency"])
    fields["events"] = tuple(Event(*each) for each in fields["events"])
    return Report.of_fields(fields)


def main() -> None:
    """In the child: answers until nobody asks any more."""
    decode_together([])  # what it needs is loaded before it says that it is ready
    with socket.socket(fileno=0) as line, suppress(EOFError, OSError):
        _send(line, True)
        while True:
            _send(line, _packed(decode_together(_receive(line))))
