"""A line in use: frames in, frames out, by one thread; other threads hand it what is to go out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from edgeloop.telemetry.serial_link.lines import Line
from edgeloop.telemetry.serial_link.outbox import Outbox
from edgeloop.telemetry.wire.framing import DELIMITER, Frame, FrameReader, encode_request

_PIECE_BYTES = 4096
_PATIENCE_S = 0.5


class Link:
    """`serve` reads and writes until `stop`, or until the line is gone, which it raises. The line is closed then."""

    def __init__(self, line: Line, reader: FrameReader, *, stuck_after_s: float) -> None:
        """stuck_after_s: a line that takes no byte for so long is gone (TimeoutError)."""
        self.reader = reader
        self._line = line
        self._outbox = Outbox()
        self._lock = threading.Lock()
        self._stuck_after_s = stuck_after_s
        self._is_stopped = False

    def send(self, kind: int, request_id: int, body: bytes) -> None:
        """A frame that others wait for. Returns at once, from any thread."""
        # The zero in front ends whatever was cut short before.
        data = DELIMITER + encode_request(kind, request_id, body)
        with self._lock:
            self._outbox.put(data)
        self._line.wake()

    def send_bulk(self, channel: int, kind: int, request_id: int, body: bytes) -> int:
        """A frame of a long transfer (BULK_CHUNK_BYTES at most); how many of this channel now wait."""
        data = encode_request(kind, request_id, body)
        with self._lock:
            self._outbox.put_bulk(channel, data)
            waiting = self._outbox.bulk_waiting(channel)
        self._line.wake()
        return waiting

    def bulk_waiting(self, channel: int) -> int:
        """Frames of this channel that have not begun."""
        with self._lock:
            return self._outbox.bulk_waiting(channel)

    def wake(self) -> None:
        """A round, now."""
        self._line.wake()

    def stop(self) -> None:
        """`serve` returns soon; what has not gone out does not."""
        self._is_stopped = True
        self._line.wake()

    def serve(self, on_frame: Callable[[Frame], None], on_round: Callable[[], None] = lambda: None) -> None:
        """`on_frame` gets what arrives whole, `on_round` a chance twice a second at least."""
        moved_s = time.monotonic()
        try:
            while not self._is_stopped:
                with self._lock:
                    outgoing = self._outbox.peek(_PIECE_BYTES)
                data, count = self._line.exchange(outgoing, _PATIENCE_S)
                now = time.monotonic()
                if count:
                    with self._lock:
                        self._outbox.written(count)
                if count or not outgoing:
                    moved_s = now
                elif now - moved_s > self._stuck_after_s:
                    raise TimeoutError
                if data:
                    for frame in self.reader.feed(data):
                        on_frame(frame)
                on_round()
        finally:
            self._line.close()
