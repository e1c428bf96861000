"""A broker and a connection to it, for both ends of MQTT telemetry, through paho-mqtt. MQTT 5, adr/0153.

    device     publishes  edgeloop/v1/DEVICE/reports   QoS 1   request id (32 bit, big-endian), then a batch
    collector  publishes  edgeloop/v1/DEVICE/acks      QoS 0   the id of the request it answers, then an acknowledgement

DEVICE is percent-encoded, so that no name is a wildcard. The broker's own acknowledgement (PUBACK) says only that the
broker has a message; a report is safe on the collector's acknowledgement alone.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from edgeloop.errors import ConfigError, MissingExtraError, UsageError
from edgeloop.telemetry.transports import Address, NotAcknowledgedError
from edgeloop.telemetry.transports.tls import client_context
from edgeloop.telemetry.wire.values import tidy

ALL_REPORTS = "edgeloop/v1/+/reports"
USER, PASSWORD = "EDGELOOP_MQTT_USER", "EDGELOOP_MQTT_PASSWORD"
TLS_OPTIONS = ("ca", "cert", "key")
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_KEEPALIVE_S = 30
_GOODBYE_S = 1.0
_CREDENTIALS_HINT = f"set {USER} and {PASSWORD}, or give ?login=FILE with the user and the password on a line each"


class BrokerError(NotAcknowledgedError):
    """The broker is away, refuses, or the connection to it broke."""


@dataclass(frozen=True)
class Broker:
    """Where it is and who we are there. Printing it shows no secret."""

    host: str
    port: int
    shown: str
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


def parse_broker(address: Address, *more_options: str, environ: Mapping[str, str] = os.environ) -> Broker:
    """`mqtt://host:1883`, `mqtts://host:8883?ca=ca.pem&cert=..&key=..&login=FILE`.

    UsageError for a wrong URL or a password in it, ConfigError for a file that cannot be used, MissingExtraError.
    """
    parts = address.only(*TLS_OPTIONS, "login", *more_options).parts
    if parts.username is not None:
        raise UsageError(f"telemetry URL {address.url!r} takes no user or password", hint=_CREDENTIALS_HINT)
    if not parts.hostname or parts.path not in ("", "/"):
        raise UsageError(f"telemetry URL {address.url!r} names no broker", hint="mqtt://host:1883 or mqtts://host:8883")
    given = {name: address.options[name] for name in TLS_OPTIONS if name in address.options}
    if given and parts.scheme != "mqtts":
        raise UsageError(f"telemetry URL {address.url!r}: {', '.join(given)} needs mqtts")
    if find_spec("paho") is None:
        raise MissingExtraError("telemetry over MQTT", "mqtt")
    user, password = _login(address.options.get("login"), environ)
    port = parts.port or _PORTS[parts.scheme]
    tls = client_context(**given) if parts.scheme == "mqtts" else None
    return Broker(parts.hostname, port, f"{parts.scheme}://{parts.hostname}:{port}", tls, user, password)


def _login(file: str | None, environ: Mapping[str, str]) -> tuple[str, str]:
    if file is None:
        return environ.get(USER, ""), environ.get(PASSWORD, "")
    try:
        lines = Path(file).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        text = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigError(f"login file {file!r} cannot be read: {text}", hint=_CREDENTIALS_HINT) from None
    user, password = (*lines, "", "")[:2]
    return user, password


def reports_topic(device: str) -> str:
    """Where a device publishes."""
    return f"edgeloop/v1/{quote(device, safe='')}/reports"


def acks_topic(device: str) -> str:
    """Where it is answered."""
    return f"edgeloop/v1/{quote(device, safe='')}/acks"


def device_of(topic: str) -> str | None:
    """Whose reports come on this topic; None for any other topic, or a name that is spelled otherwise than ours."""
    parts = topic.split("/")
    if len(parts) != 4 or not parts[2]:
        return None
    device = unquote(parts[2])
    return device if topic == reports_topic(device) else None


class Link:
    """One connection, from `open` to its end; paho's thread runs it. A new one is a new object, so nothing that paho
    holds back for a broker that is away comes later, unasked."""

    def __init__(
        self,
        broker: Broker,
        *,
        subscribe_to: str,
        subscribe_qos: int,
        on_message: Callable[[Link, Any], None],
        max_packet_bytes: int,
        client_id: str = "",
        remembered_s: int = 0,
        max_unanswered: int = 0,
    ) -> None:
        """on_message: in paho's thread; at QoS 1 it calls `done` when the message is dealt with. client_id: "" lets the
        broker choose. remembered_s: so long the broker keeps messages for this client id when the connection is gone.
        max_unanswered: so many messages come at most before `done`; 0: as the broker likes.
        """
        self.changed = threading.Condition()
        self.failure: BrokerError | None = None
        self.receipt: tuple[int, Any] = (-1, None)
        """The last message that the broker acknowledged, and its reason code. Guarded by `changed`."""
        self._broker, self._remembered_s, self._max_packet_bytes = broker, remembered_s, max_packet_bytes
        self._max_unanswered = max_unanswered
        self._subscription = (subscribe_to, subscribe_qos)
        self._on_message = on_message
        self._ready = self._running = self._closing = self._woken = False
        self._client = self._make_client(client_id)

    def open(self, timeout_s: float) -> None:
        """Returns when the broker has taken the subscription. BrokerError."""
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        wanted = Properties(PacketTypes.CONNECT)
        wanted.SessionExpiryInterval = self._remembered_s
        wanted.MaximumPacketSize = self._max_packet_bytes
        if self._max_unanswered:
            wanted.ReceiveMaximum = self._max_unanswered
        deadline_s = time.monotonic() + timeout_s
        self._client.connect_timeout = max(timeout_s, 0.1)
        try:
            self._client.connect(
                self._broker.host,
                self._broker.port,
                keepalive=_KEEPALIVE_S,
                clean_start=not self._remembered_s,
                properties=wanted,
            )
        except (OSError, UnicodeError) as error:
            raise self._unreachable(error) from error
        self._client.loop_start()
        self._running = True
        with self.changed:
            self.changed.wait_for(lambda: self._ready or self.failure, max(deadline_s - time.monotonic(), 0.0))
        if not self._ready:
            failure = self.failure
            self.close()
            raise failure or BrokerError(f"{self._broker.shown} did not answer in time", hint="is it a broker?")

    def publish(self, topic: str, payload: bytes, qos: int, expires_s: int) -> int:
        """Its message number, by which `receipt` says that the broker has taken it. The broker drops what it could not
        hand on within `expires_s`."""
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        properties = Properties(PacketTypes.PUBLISH)
        properties.MessageExpiryInterval = expires_s
        return int(self._client.publish(topic, payload, qos=qos, properties=properties).mid)

    def done(self, message: Any) -> None:
        """Acknowledge a message to the broker: it will not come again."""
        self._client.ack(message.mid, message.qos)

    def wait_until_lost(self, timeout_s: float | None = None) -> BrokerError | None:
        """Why the connection ended; None while it stands after `timeout_s`, or when `wake` was called."""
        with self.changed:
            self.changed.wait_for(lambda: self.failure or self._woken, timeout_s)
            return self.failure

    def wake(self) -> None:
        """Ends `wait_until_lost`, now and later."""
        with self.changed:
            self._woken = True
            self.changed.notify_all()

    def close(self) -> None:
        """Say goodbye and end the thread; a connection that does not answer is cut."""
        self._closing = True
        if not self._running:
            return
        self._client.disconnect()
        with self.changed:
            self.changed.wait_for(lambda: self.failure, _GOODBYE_S)
        # paho's thread would wait for a dead line until the keepalive is over.
        with suppress(OSError, AttributeError):
            self._client.socket().shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()

    def _make_client(self, client_id: str) -> Any:
        from paho.mqtt.client import Client, MQTTv5
        from paho.mqtt.enums import CallbackAPIVersion

        client = Client(
            CallbackAPIVersion.VERSION2, client_id, protocol=MQTTv5, reconnect_on_failure=False, manual_ack=True
        )
        if self._broker.tls is not None:
            client.tls_set_context(self._broker.tls)
        if self._broker.user:
            client.username_pw_set(self._broker.user, self._broker.password or None)
        client.on_socket_open = lambda _client, _data, opened: opened.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_publish = self._published
        client.on_disconnect = self._disconnected
        client.on_message = self._heard
        return client

    def _heard(self, _client: Any, _data: Any, message: Any) -> None:
        try:
            self._on_message(self, message)
        except Exception as error:  # it would end paho's thread, and nobody would know
            self._fail(BrokerError(f"{self._broker.shown}: a message failed: {error!r}"))

    def _connected(self, _client: Any, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if code.is_failure:
            self._fail(self._refused(code.getName()))
        else:
            self._client.subscribe(*self._subscription)

    def _subscribed(self, _client: Any, _data: Any, _number: int, codes: Any, _properties: Any) -> None:
        with self.changed:
            self._ready = not any(code.is_failure for code in codes)
            self.changed.notify_all()
        if not self._ready:
            topic = self._subscription[0]
            self._fail(BrokerError(f"{self._broker.shown} does not let us read {topic}", hint="check the broker's ACL"))

    def _published(self, _client: Any, _data: Any, number: int, code: Any, _properties: Any) -> None:
        # Else a broker that keeps Nagle's algorithm holds back what follows until our kernel acknowledges, 40 ms later.
        with suppress(OSError, AttributeError):
            self._client.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        with self.changed:
            self.receipt = (number, code)
            self.changed.notify_all()

    def _disconnected(self, _client: Any, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        reason = code.getName()
        shown = self._broker.shown
        if self._closing:
            self._fail(BrokerError(f"{shown}: closed"))
        elif not self._ready and self._broker.tls is None:
            self._fail(
                BrokerError(f"{shown} closed the connection", hint="does it want TLS? mqtts://host:8883?ca=FILE")
            )
        elif not self._ready:
            self._fail(
                BrokerError(f"{shown} closed the connection", hint="does it want a certificate? &cert=FILE&key=FILE")
            )
        else:
            self._fail(BrokerError(f"the connection to {shown} is lost: {tidy(reason)}"))

    def _fail(self, error: BrokerError) -> None:
        with self.changed:
            self.failure = self.failure or error
            self.changed.notify_all()

    def _refused(self, reason: str) -> BrokerError:
        shown = self._broker.shown
        if reason in ("Bad user name or password", "Not authorized"):
            what = "refuses the user or the password" if self._broker.user else "wants a user and a password"
            return BrokerError(f"{shown} {what}", hint=_CREDENTIALS_HINT)
        if reason == "Unsupported protocol version":
            return BrokerError(f"{shown} speaks no MQTT 5", hint="a broker of 2019 or later does, mosquitto since 1.6")
        return BrokerError(f"{shown} refuses: {tidy(reason)}")

    def _unreachable(self, error: Exception) -> BrokerError:
        shown = self._broker.shown
        if isinstance(error, ssl.SSLCertVerificationError):
            text = f"its certificate was refused: {tidy(error.verify_message)}"
            return BrokerError(f"{shown}: {text}", hint="give the broker's CA with ?ca=FILE; is this clock right?")
        if self._broker.tls is not None and isinstance(error, (ssl.SSLError, ConnectionResetError)):
            text = tidy(getattr(error, "reason", None) or getattr(error, "strerror", "") or str(error))
            return BrokerError(f"{shown}: no TLS there: {text}", hint="mqtt:// is without TLS")
        if isinstance(error, socket.gaierror):
            return BrokerError(f"{shown}: no address for this host name")
        text = (
            "no answer in time"
            if isinstance(error, TimeoutError)
            else tidy(getattr(error, "strerror", "") or str(error))
        )
        return BrokerError(f"{shown} is not reachable: {text}", hint="is the broker running?")
