"""`memory:`: the collector is a callable in this process. For tests and demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgeloop.errors import UsageError
from edgeloop.telemetry.transports import DEFAULT_TIMEOUT_S, Address, NotAcknowledgedError
from edgeloop.telemetry.wire.codec import MAX_BATCH_BYTES, Ack, decode_ack, encode_ack, encode_batch

Handle = Callable[[bytes], Ack]
"""Takes an encoded batch, answers after its commit: `collector.ingest.Ingest.handle`."""


class MemoryTransport:
    """Calls `handle` with the very bytes that a wire would carry; `None` is a collector that is away."""

    batch_bytes = MAX_BATCH_BYTES // 2

    def __init__(self, handle: Handle | None) -> None:
        self.handle = handle

    def send(self, batch: Sequence[bytes], timeout_s: float = DEFAULT_TIMEOUT_S, answers: Sequence[bytes] = ()) -> Ack:
        """See `Transport.send`; there is nothing to wait for, so `timeout_s` is not used."""
        body = encode_batch(batch, answers)
        if self.handle is None:
            raise NotAcknowledgedError("memory: no collector is there")
        try:
            return decode_ack(encode_ack(self.handle(body)))
        except Exception as error:
            raise NotAcknowledgedError(f"memory: the collector failed: {error}", blames_batch=True) from error

    def close(self) -> None:
        """Nothing is held."""


def open_url(address: Address) -> MemoryTransport:
    """There is no name by which a URL could find a callable: UsageError."""
    raise UsageError(f"telemetry URL {address.url!r} works from Python only", hint="use MemoryTransport(ingest.handle)")
