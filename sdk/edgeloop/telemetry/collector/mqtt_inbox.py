"""Messages of one connection to a broker on their way into the store: those that wait together are committed together.

The thread that reads the connection only puts them here, so that it goes on answering the broker however long a commit
takes. What is not answered when the connection ends comes again, from the broker and from its device.
"""

from __future__ import annotations

import struct
import threading
from collections import deque
from typing import Any

from edgeloop.errors import DataError
from edgeloop.telemetry.collector.ingest import Ingest, Request
from edgeloop.telemetry.store import StoreUnavailableError
from edgeloop.telemetry.transports.mqtt_link import Link, acks_topic, device_of
from edgeloop.telemetry.wire.codec import Ack, encode_ack
from edgeloop.telemetry.wire.framing import split_request

MAX_TOGETHER = 32
"""Bounds how long the first of them waits for its answer."""
_ANSWER_EXPIRES_S = 60
_CLOSING_S = 25.0


class MqttInbox:
    """Takes messages in by a thread of its own, until `close`."""

    def __init__(self, ingest: Ingest, name: str) -> None:
        """name: the broker's, for people."""
        self._ingest, self._name = ingest, name
        self._waiting: deque[tuple[Link, Any]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"inbox of {name}", daemon=True)
        self._thread.start()

    def put(self, link: Link, message: Any) -> None:
        """From the thread that reads the connection."""
        with self._changed:
            self._waiting.append((link, message))
            self._changed.notify()

    def close(self) -> None:
        """End after what is in hand. The rest is not answered."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout=_CLOSING_S)

    def take_in(self, messages: list[tuple[Link, Any]]) -> None:
        """Commit, answer the devices, and acknowledge to the broker."""
        read = [(link, message, _request(message)) for link, message in messages]
        found = [(link, *request) for link, _message, request in read if request is not None]
        try:
            outcomes = self._ingest.handle_all([request for _link, _id, request in found])
            for (link, request_id, request), outcome in zip(found, outcomes, strict=True):
                if isinstance(outcome, Ack):
                    assert request.sender is not None
                    self.answer(link, request.sender, struct.pack(">I", request_id) + encode_ack(outcome))
                elif not isinstance(outcome, (DataError, StoreUnavailableError)):
                    self._failed(outcome)  # those are told by the ingest; without an answer the device sends again
        except Exception as error:
            self._failed(error)
        finally:  # also what we failed on: it would come again with every connection
            for link, message in messages:
                link.done(message)

    def answer(self, link: Link, device: str, answer: bytes) -> None:
        """Send it to the device; one that is gone meanwhile asks again."""
        link.publish(acks_topic(device), answer, 0, _ANSWER_EXPIRES_S)

    def _failed(self, error: Exception) -> None:
        self._ingest.notices.once(f"defect {type(error).__name__}", f"{self._name}: failed: {error!r}")

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return
                together = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_TOGETHER))]
            self.take_in(together)


def _request(message: Any) -> tuple[int, Request] | None:
    """(request id, what to handle); None for nonsense."""
    device = device_of(message.topic)
    if device is None or message.retain:
        return None
    try:
        request_id, batch = split_request(message.payload)
    except DataError:
        return None
    return request_id, Request(batch, device)
