"""Takes batches and answers from a serial line, and writes acknowledgements and commands to it."""

from __future__ import annotations

import threading
import time
from secrets import randbits

from edgeloop.errors import DataError, DeviceError
from edgeloop.telemetry.collector.chunk_relay import ChunkRelay
from edgeloop.telemetry.collector.ingest import Ingest
from edgeloop.telemetry.commands.codec import decode_answer
from edgeloop.telemetry.commands.signing import unsigned
from edgeloop.telemetry.commands.values import Answer, Command, new_command_id
from edgeloop.telemetry.serial_link.address import OpenDescriptor, SerialPort, explain, reopen_delay_s
from edgeloop.telemetry.serial_link.lines import Line
from edgeloop.telemetry.serial_link.link import Link
from edgeloop.telemetry.store import StoreUnavailableError
from edgeloop.telemetry.wire.codec import Ack, decode_batch, decode_report, encode_ack
from edgeloop.telemetry.wire.framing import (
    KIND_ACK,
    KIND_ANSWER,
    KIND_BATCH,
    KIND_CHUNK_ACK,
    KIND_COMMAND,
    Frame,
    FrameReader,
    split_request,
)

_STUCK_AFTER_S = 5.0
_NONSENSE_AFTER_BAD = 5
_MAX_BOOTS = 1000
_FIRST_ASK_PAUSE_S, _MAX_ASK_PAUSE_S = 1.0, 60.0  # who is there? while nobody is known


class SerialListener:
    """One line, one thread. Batches are committed before they are acknowledged; what arrives damaged is dropped and
    the device sends it again. A port that vanishes is opened again when it is back.

    It learns which devices are at the other end from their batches, and from who answers its ping.
    """

    def __init__(self, port: SerialPort | OpenDescriptor, ingest: Ingest) -> None:
        self._port = port
        self._ingest = ingest
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"serial {port}", daemon=True)
        self.relay = ChunkRelay()
        """Files for devices at the other end."""
        self._line: Line | None = None
        self._link: Link | None = None
        self._whole = 0
        self._damaged = 0
        self._device_of_boot: dict[str, str] = {}
        self._ping = ""
        self._ask_again_s = self._ask_pause_s = 0.0

    @property
    def devices(self) -> frozenset[str]:
        """Who is known to be at the other end."""
        return frozenset(self._device_of_boot.values())

    def push(self, device: str, command: bytes) -> bool:
        """Write an encoded command to the line now, where its device is there. Returns at once, from any thread."""
        link = self._link
        if link is None or device not in self.devices:
            return False
        link.send(KIND_COMMAND, randbits(32), command)
        return True

    @property
    def bytes_per_s(self) -> int:
        """What the line carries."""
        return self._port.bytes_per_s

    def start(self) -> None:
        """Open the port and begin. DeviceError when it cannot be opened now."""
        self._line = self._port.open()
        self._thread.start()

    def stop(self) -> None:
        """End after the batch in hand. May be called at any time, also twice."""
        self._stopping.set()
        if (link := self._link) is not None:
            link.stop()
        if self._thread.is_alive():
            self._thread.join(timeout=30)
        line, self._line = self._line, None
        if line is not None:  # it never began
            line.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._line is None and not self._reopen():
                return
            try:
                self._serve()
            except Exception as error:  # pyserial lets termios.error through, which is no OSError
                if not self._port.reopens:
                    text = "the other end closed it" if isinstance(error, EOFError) else explain(error)[0]
                    self._ingest.notices.once(f"serial {self._port} ended", f"serial {self._port}: {text}")
                    return
                # pyserial's words for an unplugged adapter are two lines about multiple access: ours are plainer.
                text = f"serial port {self._port} stopped working (unplugged?); waiting for it to come back"
                self._ingest.notices.trouble(f"serial {self._port}", text)

    def _reopen(self) -> bool:
        """True when the port is open again, False when the listener is to stop."""
        attempt = 0
        while not self._stopping.wait(reopen_delay_s(attempt)):
            attempt += 1
            try:
                self._line = self._port.open()
            except DeviceError:
                continue
            self._ingest.notices.over(f"serial {self._port}", f"serial port {self._port} is back")
            return True
        return False

    def _serve(self) -> None:
        line, self._line = self._line, None
        if line is None:
            return
        self._damaged = 0
        self._device_of_boot.clear()
        self._link = self.relay.link = link = Link(line, FrameReader(), stuck_after_s=_STUCK_AFTER_S)
        if self._stopping.is_set():
            link.stop()
        self._ask_again_s, self._ask_pause_s = time.monotonic(), _FIRST_ASK_PAUSE_S
        try:
            link.serve(lambda frame: self._take(link, frame), lambda: self._look(link))
        finally:
            self._link = self.relay.link = None

    def _look(self, link: Link) -> None:
        self._count(link)
        now = time.monotonic()
        if not self._device_of_boot and now >= self._ask_again_s:
            self._ask_again_s, self._ask_pause_s = now + self._ask_pause_s, min(2 * self._ask_pause_s, _MAX_ASK_PAUSE_S)
            self._ping = self._ping or new_command_id()
            link.send(KIND_COMMAND, randbits(32), unsigned(Command("ping", self._ping)))

    def _count(self, link: Link) -> None:
        if link.reader.bad == self._damaged:
            return
        self._ingest.metrics.count("frames_damaged", link.reader.bad - self._damaged)
        self._damaged = link.reader.bad
        if not self._whole and self._damaged >= _NONSENSE_AFTER_BAD:
            self._ingest.notices.once(
                f"nonsense {self._port}",
                f"serial {self._port}: bytes arrive but no frame is whole; is the speed the same at both ends?",
            )

    def _take(self, link: Link, frame: Frame) -> None:
        self._whole += 1
        if frame.kind not in (KIND_BATCH, KIND_ANSWER, KIND_CHUNK_ACK):
            return
        try:
            request_id, body = split_request(frame.payload)
            if frame.kind == KIND_CHUNK_ACK:
                self.relay.take(request_id, body)
            elif frame.kind == KIND_ANSWER:
                self._take_answer(body)
            else:
                ack = self._ingest.handle(body)
                link.send(KIND_ACK, request_id, encode_ack(ack))
                self._learn(ack, body)
        except (DataError, StoreUnavailableError):  # told by the ingest; without an answer the device sends again
            return
        except Exception as error:  # a defect of ours is no reason to give up the line
            self._ingest.notices.once(f"defect {type(error).__name__}", f"serial {self._port}: failed: {error!r}")

    def _take_answer(self, body: bytes) -> None:
        answer = decode_answer(body)
        if answer.id == self._ping:
            self._met(answer)
        else:
            self._ingest.on_answers("", [body])

    def _met(self, answer: Answer) -> None:
        device, boot = answer.body.get("device"), answer.body.get("boot")
        if isinstance(device, str) and isinstance(boot, str) and device:
            self._know(boot, device)

    def _learn(self, ack: Ack, batch: bytes) -> None:
        """A report is read once more only where its boot is new."""
        if all(boot in self._device_of_boot for boot, _first, _last in ack.accepted):
            return
        for body in decode_batch(batch).reports:
            try:
                report = decode_report(body)
            except DataError:
                continue
            self._know(report.boot, report.device)

    def _know(self, boot: str, device: str) -> None:
        if len(self._device_of_boot) >= _MAX_BOOTS:
            self._device_of_boot.clear()
        self._device_of_boot[boot] = device
