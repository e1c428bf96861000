"""`mqtt://host:1883`, `mqtts://host:8883?ca=ca.pem`: a batch to a broker, an acknowledgement from the collector.

User and password come from EDGELOOP_MQTT_USER and EDGELOOP_MQTT_PASSWORD, or from `?login=FILE`, a line each.
"""

from __future__ import annotations

import math
import random
import struct
import time
from collections.abc import Sequence
from typing import Any

from edgeloop.errors import DataError, UsageError
from edgeloop.telemetry.transports import DEFAULT_TIMEOUT_S, Address, NotAcknowledgedError
from edgeloop.telemetry.transports.mqtt_link import Broker, Link, acks_topic, parse_broker, reports_topic
from edgeloop.telemetry.wire.codec import MAX_ACK_BYTES, Ack, decode_ack, encode_batch
from edgeloop.telemetry.wire.framing import split_request

_NOBODY_HINT = "start one: edgeloop collect --mqtt URL"
_TOPIC_BYTES = 8 * 1024


class MqttTransport:
    """Connects at the first `send` and keeps the connection until it fails."""

    batch_bytes = 64 * 1024

    def __init__(self, broker: Broker, device: str) -> None:
        self._broker, self._device = broker, device
        self._link: Link | None = None
        self._request_id = random.getrandbits(32)  # an answer to a former process's batch must not fit
        self._answer: bytes | None = None  # guarded by the link's `changed`

    def send(self, batch: Sequence[bytes], timeout_s: float = DEFAULT_TIMEOUT_S, answers: Sequence[bytes] = ()) -> Ack:
        """See `Transport.send`. Fails at once where the broker says that no collector listens."""
        body = encode_batch(batch, answers)
        deadline_s = time.monotonic() + timeout_s
        link = self._opened(timeout_s)
        with link.changed:
            self._request_id, self._answer = (self._request_id + 1) & 0xFFFF_FFFF, None
        payload = struct.pack(">I", self._request_id) + body
        number = link.publish(reports_topic(self._device), payload, 1, math.ceil(timeout_s))
        answer, receipt = self._wait(link, number, deadline_s)
        if answer is None:
            raise self._unanswered(link, receipt)
        try:
            return decode_ack(answer)
        except DataError as error:
            raise NotAcknowledgedError(f"{self._broker.shown}: not an acknowledgement: {error.message}") from error

    def close(self) -> None:
        """See `Transport.close`."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _opened(self, timeout_s: float) -> Link:
        if self._link is not None and self._link.failure is not None:
            self.close()
        if self._link is None:
            link = Link(
                self._broker,
                subscribe_to=acks_topic(self._device),
                subscribe_qos=0,
                on_message=self._heard,
                max_packet_bytes=MAX_ACK_BYTES + _TOPIC_BYTES,
            )
            link.open(timeout_s)
            self._link = link
        return self._link

    def _wait(self, link: Link, number: int, deadline_s: float) -> tuple[bytes | None, Any]:
        """What the collector answered, and the broker's reason code; None where there is none."""

        def receipt() -> Any:
            return link.receipt[1] if link.receipt[0] == number else None

        with link.changed:
            link.changed.wait_for(
                lambda: self._answer is not None or link.failure or _reaches_nobody(receipt()),
                max(deadline_s - time.monotonic(), 0.0),
            )
            return self._answer, receipt()

    def _heard(self, link: Link, message: Any) -> None:
        try:
            request_id, body = split_request(message.payload)
        except DataError:
            return
        with link.changed:
            if request_id == self._request_id and not message.retain:
                self._answer = body
                link.changed.notify_all()

    def _unanswered(self, link: Link, receipt: Any) -> NotAcknowledgedError:
        shown = self._broker.shown
        if link.failure is not None:
            self.close()
            return link.failure
        if receipt is None:  # not even the broker answers
            self.close()
            return NotAcknowledgedError(f"{shown} did not take the reports in time", hint="reports are kept")
        if receipt.getName() == "No matching subscribers":
            return NotAcknowledgedError(f"{shown}: no collector listens at this broker", hint=_NOBODY_HINT)
        if receipt.is_failure:
            text = f"{shown} does not take reports of {self._device!r} from us: {receipt.getName()}"
            return NotAcknowledgedError(text, hint="check the broker's ACL")
        return NotAcknowledgedError(f"{shown}: no collector acknowledged in time", hint=_NOBODY_HINT)


def _reaches_nobody(receipt: Any) -> bool:
    return receipt is not None and (receipt.is_failure or receipt.getName() == "No matching subscribers")


def open_url(address: Address) -> MqttTransport:
    """See `parse_broker`; UsageError without the device's name."""
    broker = parse_broker(address)
    if not address.device:
        raise UsageError(
            f"telemetry URL {address.url!r} needs the device's name", hint="open_transport(url, device=NAME)"
        )
    return MqttTransport(broker, address.device)
