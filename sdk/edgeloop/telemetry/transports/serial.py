"""`serial:///dev/ttyUSB0?baud=115200`, `rfc2217://host:port`, `socket://host:port`: a batch as one frame, the
acknowledgement as another.

Both carry a request id, so that an acknowledgement that comes late or twice is not taken for that of another batch.
A thread reads the line from the first `send` on, with `listen` from then on: a command is heard while nothing is sent.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec

from edgeloop.errors import DataError, DeviceError, EdgeloopError, MissingExtraError, UsageError
from edgeloop.telemetry.serial_link.address import SerialPort, explain, parse_serial, reopen_delay_s
from edgeloop.telemetry.serial_link.link import Link
from edgeloop.telemetry.transports import DEFAULT_TIMEOUT_S, Address, NotAcknowledgedError
from edgeloop.telemetry.wire.codec import MAX_ACK_BYTES, Ack, decode_ack, encode_batch
from edgeloop.telemetry.wire.framing import (
    KIND_ACK,
    KIND_ANSWER,
    KIND_BATCH,
    KIND_CHUNK,
    KIND_CHUNK_ACK,
    KIND_COMMAND,
    Frame,
    FrameReader,
    split_request,
)

_STUCK_AFTER_S = 1.0
_LASTING_S = 5.0
_CLOSING_S = 2.0
_MAX_ENCODED_ACK_BYTES = MAX_ACK_BYTES + MAX_ACK_BYTES // 254 + 64

OnCommand = Callable[[bytes, Callable[[bytes], None]], None]
"""Gets a command's envelope and what takes its answer, in the line's thread: it must not wait."""
OnChunk = Callable[[int, bytes, Callable[[bytes], None]], None]
"""Gets a transfer's id, a chunk's body and what takes its acknowledgement; as OnCommand."""


class SerialTransport:
    """Takes the line at the first `send` or `listen`, alone, and keeps it until it fails."""

    def __init__(self, port: SerialPort) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._thread: threading.Thread | None = None
        self._on_command: OnCommand | None = None
        self._on_chunk: OnChunk | None = None
        self._closing = threading.Event()
        self._request_id = random.getrandbits(32)  # an answer to a former process's batch must not fit
        self._heard: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
        self.bad_frames = 0
        """Damaged frames that arrived since the line was opened."""

    @property
    def batch_bytes(self) -> int:
        """About a second of the line."""
        return min(max(self._port.bytes_per_s, 1024), 64 * 1024)

    def listen(self, on_command: OnCommand, on_chunk: OnChunk | None = None) -> None:
        """Take the line and keep it, from now until `close`; one that is away is taken when it is there."""
        with self._lock:
            self._on_command, self._on_chunk = on_command, on_chunk
            self._start()

    def send(self, batch: Sequence[bytes], timeout_s: float = DEFAULT_TIMEOUT_S, answers: Sequence[bytes] = ()) -> Ack:
        """See `Transport.send`. `timeout_s` starts when the line has had the time to carry the batch."""
        body = encode_batch(batch, answers)
        deadline_s = time.monotonic() + timeout_s + len(body) / self._port.bytes_per_s
        with self._lock:
            self._request_id = (self._request_id + 1) & 0xFFFF_FFFF
            heard: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
            self._heard = heard
            link = self._opened()
        link.send(KIND_BATCH, self._request_id, body)
        try:
            answer = heard.get(timeout=max(0.0, deadline_s - time.monotonic()))
        except queue.Empty:
            raise NotAcknowledgedError(
                f"serial port {self._port}: no acknowledgement in time",
                hint="is a collector listening at the other end, at the same speed?",
            ) from None
        if isinstance(answer, Exception):
            raise self._failed(answer) from answer
        try:
            return decode_ack(answer)
        except DataError as error:
            raise NotAcknowledgedError(f"serial port {self._port}: not an acknowledgement: {error.message}") from error

    def close(self) -> None:
        """See `Transport.close`. Ends listening, too."""
        with self._lock:
            self._on_command = None
            thread, link = self._thread, self._link
            self._closing.set()
            if link is not None:
                link.stop()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSING_S)

    # -- the line's life

    def _opened(self) -> Link:
        """The link, made where there is none. Holds the lock."""
        if self._link is None:
            try:
                line = self._port.open()
            except UsageError:
                raise
            except EdgeloopError as error:
                raise NotAcknowledgedError(error.message, hint=error.hint) from error
            self._link = Link(line, FrameReader(_MAX_ENCODED_ACK_BYTES), stuck_after_s=_STUCK_AFTER_S)
            self._start()
        return self._link

    def _start(self) -> None:
        if self._thread is None:
            self._closing.clear()
            self._thread = threading.Thread(target=self._live, name=f"serial {self._port}", daemon=True)
            self._thread.start()

    def _live(self) -> None:
        """Serve the link; while somebody listens, open it again where it is gone."""
        failures = 0
        while True:
            with self._lock:
                link = self._link
                if link is None and (self._on_command is None or self._closing.is_set()):
                    self._thread = None
                    return
                with suppress(EdgeloopError):
                    link = self._opened()
            began_s = time.monotonic()
            if link is not None:
                self._serve(link)
            failures = 0 if time.monotonic() - began_s > _LASTING_S else failures + 1
            if self._on_command is not None:
                self._closing.wait(reopen_delay_s(failures))

    def _serve(self, link: Link) -> None:
        gone: Exception = EOFError("closed here")
        try:
            link.serve(lambda frame: self._take(link, frame), self._count(link))
        except Exception as error:  # SerialException, OSError and termios.error, which is neither
            gone = error
        with self._lock:
            self._link = None
            self._heard.put(gone)

    def _count(self, link: Link) -> Callable[[], None]:
        def count() -> None:
            self.bad_frames = link.reader.bad

        return count

    def _take(self, link: Link, frame: Frame) -> None:
        try:
            request_id, body = split_request(frame.payload)
        except DataError:
            return
        if frame.kind == KIND_ACK and request_id == self._request_id:
            self._heard.put(body)
        elif frame.kind == KIND_COMMAND and self._on_command is not None:
            self._on_command(body, lambda answer: link.send(KIND_ANSWER, request_id, answer))
        elif frame.kind == KIND_CHUNK and self._on_chunk is not None:
            self._on_chunk(request_id, body, lambda arrived: link.send(KIND_CHUNK_ACK, request_id, arrived))

    def _failed(self, error: Exception) -> DeviceError:
        text, hint = explain(error)
        return NotAcknowledgedError(f"serial port {self._port} {text}", hint=hint)


def open_url(address: Address) -> SerialTransport:
    """UsageError for a URL that names no line or with a baud rate that is no number; MissingExtraError."""
    port = parse_serial(address.only("baud").url, "serial:///dev/ttyUSB0?baud=115200")
    if find_spec("serial") is None:
        raise MissingExtraError("telemetry over a serial port", "serial")
    return SerialTransport(port)
