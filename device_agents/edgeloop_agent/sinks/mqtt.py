"""`mqtt://[USER:PASSWORD@]HOST[:PORT]/TOPIC`: a JSON message per result to a broker, through paho-mqtt.

QoS 1 unless asked otherwise: a result counts as written when the broker has acknowledged it. While the broker is away
up to `queue` results wait; then the oldest are lost, and counted.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from edgeloop.errors import MissingExtraError, UsageError
from edgeloop_agent.sinks import SinkSpec, Surroundings
from edgeloop_agent.sinks.lines import result_line
from edgeloop_agent.sinks.queue import DEFAULT_QUEUE, LAST_CHANCE_S

if TYPE_CHECKING:
    from edgeloop.postprocess import Result

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_IN_FLIGHT = 20
_KEEPALIVE_S = 30
_RETRY_S = (1, 30)


class MqttSink:
    """paho's thread holds the connection; messages are handed to it in `flush` alone. Its callbacks only note what
    happened: they run under paho's own locks."""

    wants_frame = False
    closed = False

    def __init__(self, spec: SinkSpec, *, where: Surroundings) -> None:
        if find_spec("paho") is None:
            raise MissingExtraError("results over MQTT", "mqtt")
        self.lines = self.lost = 0
        self.problem = ""
        self._name = str(spec)
        self._limit: int = spec.options.get("queue", DEFAULT_QUEUE)
        self._qos: int = spec.options.get("qos", 1)
        self._waiting: deque[str] = deque()
        self._in_flight: set[int] = set()
        self._acknowledged: deque[int] = deque()
        parts = urlsplit(spec.path)
        self._topic = unquote(parts.path[1:])
        if any(c in self._topic for c in "+#\0"):
            raise UsageError(f"sink {spec}: a topic to publish to has no + and no #")
        self._client = self._make_client(spec)
        port = parts.port or _PORTS[spec.scheme]
        self._client.connect_async(parts.hostname or "", port, keepalive=_KEEPALIVE_S)
        self._client.loop_start()

    def write(self, source: str, time_s: float, result: Result, latency_ms: float, frame: Any = None) -> None:
        if len(self._waiting) >= self._limit:
            with contextlib.suppress(IndexError):  # the other thread took it
                self._waiting.popleft()
                self.lost += 1
        self._waiting.append(result_line(source, time_s, result, latency_ms))

    def flush(self) -> None:
        while self._acknowledged:
            number = self._acknowledged.popleft()
            if number in self._in_flight:
                self._in_flight.remove(number)
                self.lines += 1
        while self._waiting and len(self._in_flight) < _IN_FLIGHT and self._client.is_connected():
            try:
                line = self._waiting.popleft()
            except IndexError:
                return
            sent = self._client.publish(self._topic, line, qos=self._qos)
            if self._qos:  # paho sends it again after a reconnect, until it is acknowledged
                self._in_flight.add(sent.mid)
            elif sent.rc == 0:
                self.lines += 1
            else:
                self.lost += 1

    def close(self) -> None:
        deadline_s = time.monotonic() + LAST_CHANCE_S
        self.flush()
        while (self._waiting or self._in_flight) and not self.problem and time.monotonic() < deadline_s:
            time.sleep(0.01)
            self.flush()
        self._client.disconnect()
        self._client.loop_stop()
        self.lost += len(self._waiting) + len(self._in_flight)
        self._waiting.clear()
        self._in_flight.clear()

    def _make_client(self, spec: SinkSpec) -> Any:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        parts, options = urlsplit(spec.path), spec.options
        client = Client(CallbackAPIVersion.VERSION2, client_id=options.get("client", ""))
        password = unquote(parts.password) if parts.password is not None else None
        try:
            if "password_file" in options:
                password = Path(options["password_file"]).read_text(encoding="utf-8").rstrip("\r\n")
            if spec.scheme == "mqtts":
                client.tls_set(ca_certs=options.get("ca"))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"sink {spec}: {getattr(error, 'strerror', None) or error}") from error
        if parts.username is not None:
            client.username_pw_set(unquote(parts.username), password)
        client.max_inflight_messages_set(_IN_FLIGHT)
        client.reconnect_delay_set(*_RETRY_S)
        client.on_connect = self._on_connect
        client.on_connect_fail = lambda _client, _data: self._away("the broker cannot be reached")
        client.on_disconnect = self._on_disconnect
        client.on_publish = lambda _client, _data, number, _code, _more: self._acknowledged.append(number)
        return client

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, code: Any, _more: Any) -> None:
        self.problem = ""
        if code.is_failure:
            self._away(f"the broker refuses: {code}")

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, code: Any, _more: Any) -> None:
        if code.is_failure and not self.problem:
            self._away(f"the connection is lost: {code}")

    def _away(self, reason: str) -> None:
        self.problem = f"{self._name}: {reason}; up to {self._limit} results wait"
