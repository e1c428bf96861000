"""Chunks of a file on their way through a collector that holds the device's line. It keeps none of them: who sends the
file decides what goes again, from the acknowledgements that it is given back."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from edgeloop.telemetry.serial_link.link import Link
from edgeloop.telemetry.wire.framing import KIND_CHUNK

MAX_RELAYED = 64
"""Chunks at once."""
_REMEMBERED = 8


class ChunkLine(Protocol):
    """A line on which a device takes chunks."""

    @property
    def bytes_per_s(self) -> int: ...

    @property
    def relay(self) -> ChunkRelay: ...


class ChunkRelay:
    """Of one line. For several threads."""

    def __init__(self) -> None:
        self.link: Link | None = None
        """Of the line, while it is there."""
        self._lock = threading.Lock()
        self._arrived: OrderedDict[int, bytes] = OrderedDict()

    def send(self, transfer_id: int, chunks: Sequence[bytes]) -> None:
        """Behind those that wait already; dropped where the line is away."""
        link = self.link
        if link is not None:
            for body in chunks:
                link.send_bulk(transfer_id, KIND_CHUNK, transfer_id, body)

    def waiting(self, transfer_id: int) -> int:
        """Chunks that have not begun to go out."""
        link = self.link
        return 0 if link is None else link.bulk_waiting(transfer_id)

    def take(self, transfer_id: int, body: bytes) -> None:
        """An acknowledgement."""
        with self._lock:
            self._arrived[transfer_id] = body
            self._arrived.move_to_end(transfer_id)
            while len(self._arrived) > _REMEMBERED:
                self._arrived.popitem(last=False)

    def arrived(self, transfer_id: int) -> bytes:
        """The last one of this transfer; b"" where there was none."""
        with self._lock:
            return self._arrived.get(transfer_id, b"")
