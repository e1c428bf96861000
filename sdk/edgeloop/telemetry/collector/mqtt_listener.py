"""Takes batches of all devices from an MQTT broker and answers with acknowledgements.

A message is acknowledged to the broker after its batch was committed and answered, and the broker remembers this client
for an hour: what a collector had in hand when it was killed comes again. The device sends again, too, until it has the
collector's acknowledgement, so that nothing depends on the broker's memory. No shared subscription (they lose messages
when a consumer dies): of several collectors each takes everything, and the store knows duplicates.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from edgeloop.errors import DeviceError, UsageError
from edgeloop.telemetry.collector.ingest import Ingest
from edgeloop.telemetry.collector.mqtt_inbox import MAX_TOGETHER, MqttInbox
from edgeloop.telemetry.transports import parse_address
from edgeloop.telemetry.transports.mqtt_link import ALL_REPORTS, Link, parse_broker
from edgeloop.telemetry.wire.codec import MAX_BATCH_BYTES

_REMEMBERED_S = 3600
_OPEN_TIMEOUT_S = 10.0
_RECONNECT_AFTER_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # then every 30 s
_TOPIC_BYTES = 8 * 1024
_LASTING_S = 60.0  # longer than the longest wait: two of us that take turns do not tell each of them
_TOO_BRIEF = 3


class MqttListener:
    """One broker. One that is away, or refuses us, is tried again until it lets us in; that is said once."""

    make_inbox: Callable[[Ingest, str], MqttInbox] = MqttInbox

    def __init__(self, url: str, ingest: Ingest) -> None:
        """`mqtts://host:8883?ca=ca.pem&client=NAME`: as on the device, and `client`, which must differ between
        collectors of one broker (default: edgeloop-collector-HOSTNAME). Raises what `parse_broker` does."""
        address = parse_address(url)
        if address.parts.scheme not in ("mqtt", "mqtts"):
            raise UsageError(f"not a broker: {address.url!r}", hint="--mqtt mqtts://host:8883?ca=ca.pem")
        self._broker = parse_broker(address, "client")
        self._client_id = address.options.get("client") or f"edgeloop-collector-{socket.gethostname()}"
        self._ingest = ingest
        self._stopping = threading.Event()
        self._key = f"broker {self._broker.shown}"
        self._link: Link | None = None
        self._thread = threading.Thread(target=self._run, name=f"mqtt {self._broker.shown}", daemon=True)

    def start(self) -> None:
        """Begin. The broker may come later."""
        self._thread.start()

    def stop(self) -> None:
        """End after the batch in hand. May be called at any time, also twice."""
        self._stopping.set()
        if (link := self._link) is not None:
            link.wake()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    @property
    def is_connected(self) -> bool:
        """Whether batches can come."""
        return self._link is not None

    def _run(self) -> None:
        attempt = brief = 0
        while not self._stopping.is_set():
            began_s = time.monotonic()
            try:
                self._serve(say_back=brief < _TOO_BRIEF)
                brief = 0 if time.monotonic() - began_s > _LASTING_S else brief + 1
                attempt = brief
                if brief == _TOO_BRIEF:
                    text = f"{self._key} ends each connection soon: has another collector the same client id?"
                    self._ingest.notices.once(f"{self._key} brief", f"{text} (give one of them ?client=NAME)")
            except DeviceError as error:
                self._ingest.notices.trouble(self._key, f"{error}; it is tried again")
            except Exception as error:  # a defect of ours is no reason to give up the broker
                self._ingest.notices.once(f"defect {type(error).__name__}", f"{self._key}: failed: {error!r}")
            self._stopping.wait(_RECONNECT_AFTER_S[min(attempt, len(_RECONNECT_AFTER_S) - 1)])
            attempt += 1

    def _serve(self, *, say_back: bool) -> None:
        """Until the connection was lost or we are to stop. DeviceError when there is none."""
        inbox = self.make_inbox(self._ingest, self._key)
        link = Link(
            self._broker,
            subscribe_to=ALL_REPORTS,
            subscribe_qos=1,
            on_message=inbox.put,
            max_packet_bytes=MAX_BATCH_BYTES + _TOPIC_BYTES,
            client_id=self._client_id,
            remembered_s=_REMEMBERED_S,
            max_unanswered=2 * MAX_TOGETHER,
        )
        try:
            link.open(_OPEN_TIMEOUT_S)
            self._link = link
            lost = None if say_back else link.wait_until_lost(_LASTING_S)
            if lost is None and not self._stopping.is_set():
                self._ingest.notices.over(self._key, f"{self._key} is back")
                lost = link.wait_until_lost()
        finally:
            self._link = None
            inbox.close()
            link.close()
        if lost is not None:
            self._ingest.notices.trouble(self._key, f"{lost}; it is tried again")
