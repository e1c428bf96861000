"""The supervisor's part: what waits goes to the collector when all reports are there. A thread; no numpy.

Only over HTTPS, where the collector knows the device and the device the collector, or to a collector on this machine.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from edgeloop.errors import DataError, DeviceError
from edgeloop.telemetry.delivery.courier import retry_delay_s
from edgeloop.telemetry.samples.wire import (
    DUPLICATE,
    FULL,
    MAX_ANSWER_BYTES,
    MORE,
    PIECE_BYTES,
    REFUSED,
    SAMPLES_PATH,
    STORED,
    Answer,
    Piece,
    cut_about,
    decode_answer,
    encode_piece,
)
from edgeloop_agent.hard_samples.folder import SampleFolder, WaitingSample

LOOK_EVERY_S = 2.0
FULL_PAUSE_S = 3600.0
_PIECE_TIMEOUT_S = 30.0
_MAX_TURNS = 4


class Line(Protocol):
    """The collector, as `HttpTransport` reaches it."""

    def post(self, path: str, body: bytes, timeout_s: float, limit: int) -> tuple[int, bytes]:
        """(status, the answer's first `limit` bytes). Raises DeviceError where there is none."""

    def close(self) -> None: ...


def private_url(urls: Sequence[str]) -> str | None:
    """The first of them over which samples may go."""
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme == "https" or (parts.scheme == "http" and _is_here(parts.hostname or "")):
            return url
    return None


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class SampleSender:
    """Looks every LOOK_EVERY_S seconds until it is closed. reports_are_delivered: reports go first."""

    def __init__(
        self,
        device: str,
        folders: Sequence[Path],
        line: Line | None,
        reports_are_delivered: Callable[[], bool],
        tell: Callable[[str], None],
    ) -> None:
        """line: None where there is no way on which samples may go; they are kept then, as far as there is room."""
        self._device = device
        self._folders = [SampleFolder(folder) for folder in folders]
        self._line = line
        self._may_send = reports_are_delivered
        self._tell = tell
        self._counts: Counter[str] = Counter()
        self._trouble = "" if line is not None else "samples go over https only, and there is no such way"
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hard samples", daemon=True)
        if line is None:
            tell(f"hard samples: {self._trouble}; they are kept here")
        else:
            self._thread.start()

    def state(self) -> dict[str, Any]:
        """For `edgeloop-agent status`: what was sent in this run, what waits, and why nothing can be sent."""
        return {
            "sent": self._counts["sent"],
            "sent_bytes": self._counts["bytes"],
            "refused": self._counts["refused"],
            "waiting": sum(len(folder.waiting()) for folder in self._folders),
            "trouble": self._trouble,
        }

    def take_sent(self, index: int) -> Mapping[str, int]:
        """Of a model, by its place: what its next report says."""
        count = self._folders[index].take_sent()
        return {"hard_samples_sent": count} if count else {}

    def close(self, timeout_s: float = 2.0) -> None:
        """What is not sent waits for the next run."""
        self._closed.set()
        if self._line is not None:
            self._thread.join(timeout_s)
            if not self._thread.is_alive():
                self._line.close()

    def _run(self) -> None:
        pause_s, failures = LOOK_EVERY_S, 0
        while not self._closed.wait(pause_s):
            pause_s = LOOK_EVERY_S
            try:
                if self._may_send() and self._send_waiting():
                    pause_s = FULL_PAUSE_S
                failures = 0
            except (DeviceError, OSError) as error:
                failures += 1
                pause_s = retry_delay_s(failures, 1.0)
                self._note(getattr(error, "message", None) or str(error))

    def _send_waiting(self) -> bool:
        """Whether the collector's quota is used up."""
        for folder in self._folders:
            for sample in folder.waiting():
                if self._closed.is_set():
                    return False
                answer = self._send(sample)
                if answer.state == FULL:
                    self._note(f"the collector takes no more for now: {answer.reason}")
                    return True
                self._settle(folder, sample, answer)
        return False

    def _settle(self, folder: SampleFolder, sample: WaitingSample, answer: Answer) -> None:
        self._note("")
        if answer.state in (STORED, DUPLICATE):
            self._counts["sent"] += 1
            self._counts["bytes"] += sample.size
            folder.sent(sample)
        else:
            self._counts["refused"] += 1
            self._tell(f"hard samples: one was refused and is gone: {answer.reason}")
            folder.remove(sample)

    def _send(self, sample: WaitingSample) -> Answer:
        """In pieces, from where the collector stands. Raises DeviceError, OSError."""
        try:
            data = sample.path.read_bytes()
        except FileNotFoundError:
            return Answer(REFUSED, reason="its file is gone")
        if len(data) != sample.size:
            return Answer(REFUSED, reason="its file is damaged")
        offset, turns = 0, 0
        while True:
            part = data[offset : offset + PIECE_BYTES]
            answer = self._post(
                Piece(self._device, bytes.fromhex(sample.sha256), len(data), offset, part, cut_about(sample.about))
            )
            if answer.state != MORE:
                return answer
            if answer.next_offset <= offset:  # it forgot what it had, or never had it
                turns += 1
                if turns >= _MAX_TURNS:
                    raise DeviceError("the collector asks for the same piece again and again")
            if answer.next_offset > len(data):
                raise DeviceError("the collector asks for what is behind the end")
            offset = answer.next_offset

    def _post(self, piece: Piece) -> Answer:
        assert self._line is not None
        status, body = self._line.post(SAMPLES_PATH, encode_piece(piece), _PIECE_TIMEOUT_S, MAX_ANSWER_BYTES)
        if status != 200:
            raise DeviceError(f"the collector answered {status} to a hard sample")
        try:
            return decode_answer(body)
        except DataError as error:
            raise DeviceError(f"the collector did not answer to a hard sample: {error.message}") from error

    def _note(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            self._tell(f"hard samples: {trouble}; they are kept")
        self._trouble = trouble
