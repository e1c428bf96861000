"""A running collector: the HTTP server in a thread, a thread per serial line, one ingest, one store."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeloop.telemetry.alerts.keeper import watch
from edgeloop.telemetry.alerts.rules import NO_ALERTS, AlertSettings
from edgeloop.telemetry.collector.commands import CommandQueue
from edgeloop.telemetry.collector.decoding import WhereItFits
from edgeloop.telemetry.collector.http_server import LOOPBACK_ONLY, Doors, HttpServer
from edgeloop.telemetry.collector.ingest import Ingest
from edgeloop.telemetry.collector.limits import check_exposure, parse_listen
from edgeloop.telemetry.collector.mqtt_listener import MqttListener
from edgeloop.telemetry.collector.notices import Notices, Say
from edgeloop.telemetry.collector.security.audit import Audit
from edgeloop.telemetry.collector.security.revoked import RevokedNames
from edgeloop.telemetry.collector.serial_listener import SerialListener
from edgeloop.telemetry.fleet.live import LiveFleet
from edgeloop.telemetry.samples.aging import SampleAging
from edgeloop.telemetry.samples.keeping import SampleKeeper, samples_folder
from edgeloop.telemetry.serial_link.address import OpenDescriptor, parse_serial
from edgeloop.telemetry.store import DEFAULT_STORE_URL, open_store
from edgeloop.telemetry.store.database import Store
from edgeloop.telemetry.store.retention import Retention

DEFAULT_LISTEN = "127.0.0.1:8080"

SerialSpec = str | int
"""A port as `parse_serial` takes it, or an open file descriptor."""


@dataclass
class CollectorHandle:
    """A collector that runs in this process until `stop()`; also a context manager."""

    store: Store
    ingest: Ingest
    http: HttpServer
    fleet: LiveFleet
    listeners: Sequence[SerialListener | MqttListener] = ()

    @property
    def url(self) -> str:
        """Where it really listens, e.g. `http://127.0.0.1:8080`."""
        return self.http.url

    def stop(self) -> None:
        """Finish what is in hand, answer it, close the store. May be called twice."""
        for listener in self.listeners:
            listener.stop()
        self.fleet.stop()  # ends the open streams
        self.http.stop()
        self.ingest.decoding.stop()
        self.store.close()

    def __enter__(self) -> CollectorHandle:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()


def start_collector(
    store_url: str = DEFAULT_STORE_URL,
    listen: str = "127.0.0.1:0",
    serial_ports: Sequence[SerialSpec] = (),
    brokers: Sequence[str] = (),
    *,
    doors: Doors = LOOPBACK_ONLY,
    retention: Retention | None = None,
    alerts: AlertSettings = NO_ALERTS,
    say: Say | None = None,
) -> CollectorHandle:
    """A collector in this process; returns when it takes reports. Port 0 takes a free one, `.url` has the real one.

    serial_ports: paths (`/dev/ttyUSB0?baud=57600`) or open descriptors, which then belong to the collector.
    brokers: URLs as `MqttListener` takes them; one that is away is waited for.
    doors: who is let in; without it everybody on this machine. retention: what the store deletes; without it nothing.
    alerts: rules to watch, and whom
    to tell. say: takes a line when something is wrong or well again; nothing is said without it.
    Raises UsageError, RefusedError (an address that others reach, without TLS or `open_to_all`; a collector that nobody
    could use), ConfigError (certificates), DeviceError (address or serial port not to be had), and what `open_store`
    raises.
    """
    address = parse_listen(listen)
    check_exposure(address, open_to_all=doors.open_to_all, tls=doors.tls is not None)
    ports = [OpenDescriptor(p) if isinstance(p, int) else parse_serial(p) for p in serial_ports]
    store = open_store(store_url)
    listeners: list[SerialListener | MqttListener] = []
    fleet, decoding = LiveFleet(store), WhereItFits(say or _silent)
    try:
        commands = CommandQueue(store.database)
        ingest = Ingest(
            store, Notices(say or _silent), on_stored=fleet.observe,
            pending_commands=commands.pending, on_answers=commands.answered,
            revoked=RevokedNames(store.database), decoding=decoding,
        )  # fmt: skip
        watch(fleet, alerts, store.database, say or _silent)
        fleet.start()
        store.keep_up(retention, say)
        for port in ports:
            listener = SerialListener(port, ingest)
            listener.start()
            listeners.append(listener)
            commands.lines.append(listener)
        for url in brokers:
            broker = MqttListener(url, ingest)
            broker.start()
            listeners.append(broker)
        if doors.samples.days is not None:
            keeper = SampleKeeper(store.database, samples_folder(store.url), doors.samples)
            aging = SampleAging(keeper, Audit(store.database, doors.on_entry), doors.samples.days, say or _silent)
            fleet.when_stopped(aging.stop)
            aging.start()
        http = HttpServer.start(address, ingest, store, fleet, commands, doors=doors)
    except BaseException:
        for each in listeners:
            each.stop()
        fleet.stop()
        decoding.stop()
        store.close()
        raise
    return CollectorHandle(store, ingest, http, fleet, listeners)


def run_collector(
    store_url: str,
    listen: str = DEFAULT_LISTEN,
    serial_ports: Sequence[SerialSpec] = (),
    brokers: Sequence[str] = (),
    *,
    doors: Doors = LOOPBACK_ONLY,
    retention: Retention | None = None,
    alerts: AlertSettings = NO_ALERTS,
    say: Say | None = None,
    on_ready: Callable[[CollectorHandle], None] | None = None,
) -> CollectorHandle:
    """`start_collector`, then wait for SIGTERM or SIGINT and stop. Main thread only. Returns the stopped handle."""
    _collect_garbage_seldom()
    done = threading.Event()
    former = {number: signal.signal(number, lambda *_: done.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with start_collector(
            store_url, listen, serial_ports, brokers, doors=doors, retention=retention, alerts=alerts, say=say
        ) as handle:
            if on_ready is not None:
                on_ready(handle)
            while not done.wait(1.0):
                pass
        return handle
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _collect_garbage_seldom() -> None:
    """Reports are many and make no circles: looking for some among them cost a tenth of the ingest."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _silent(_line: str) -> None:
    return
