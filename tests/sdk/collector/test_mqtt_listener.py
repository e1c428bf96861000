"""The collector at a real mosquitto: whose reports it takes, what a crash costs, what it says of a broker."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from edgeloop.errors import ConfigError, MissingExtraError, UsageError
from edgeloop.telemetry.collector.ingest import Ingest, Request
from edgeloop.telemetry.collector.mqtt_listener import MqttListener
from edgeloop.telemetry.collector.notices import Notices
from edgeloop.telemetry.delivery.courier import Courier
from edgeloop.telemetry.spool.spool import Spool
from edgeloop.telemetry.store import StoreUnavailableError, open_store
from edgeloop.telemetry.store.database import Store
from edgeloop.telemetry.transports import NotAcknowledgedError, open_transport, parse_address
from edgeloop.telemetry.transports.mqtt_link import Link, device_of, parse_broker, reports_topic
from edgeloop.telemetry.wire.codec import Ack, encode_report
from support.certificates import Certificates
from support.collecting import wait_until
from support.far_end import SilentTcp
from support.mosquitto import PASSWORD, USER, Mosquitto
from support.reports import BOOT, small_body, small_report

SHORT_S = 0.5


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path / 'telemetry.db'}")
    yield opened
    opened.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    running = Mosquitto(tmp_path)
    yield running
    running.stop()


def listening(url: str, ingest: Ingest) -> MqttListener:
    listener = MqttListener(url, ingest)
    listener.start()
    wait_until(lambda: listener.is_connected, "at the broker")
    return listener


def stored(store: Store) -> list[int]:
    return sorted(row.report.seq for row in store.reports())


def refused(url: str, device: str = "pi-1") -> str:
    with closing(open_transport(url, device=device)) as transport, pytest.raises(NotAcknowledgedError) as caught:
        transport.send([small_body(1)], 5.0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("device", ["pi-1", "a/b", "+", "#", "ü 日本", "50%", "$SYS", "x" * 120])
def test_a_name_is_one_level_of_a_topic_and_comes_back(device: str) -> None:
    topic = reports_topic(device)
    assert topic.count("/") == 3 and "+" not in topic and "#" not in topic
    assert device_of(topic) == device


@pytest.mark.parametrize("topic", ["edgeloop/v1/pi%2D1/reports", "edgeloop/v1//reports", "edgeloop/v1/a/acks", "x", ""])
def test_another_topic_or_spelling_is_nobodys(topic: str) -> None:
    assert device_of(topic) is None


def test_reports_under_another_devices_topic_are_rejected(broker: Mosquitto, store: Store) -> None:
    listener = listening(broker.url, Ingest(store))
    with closing(open_transport(broker.url, device="mallory")) as transport:
        (rejected,) = transport.send([small_body(1)]).rejected
    assert (rejected.boot, rejected.seq, rejected.reason) == (BOOT, 1, "is from another device")
    assert stored(store) == []
    listener.stop()


def test_what_no_collector_hears_is_told_at_once_and_says_what_to_start(broker: Mosquitto) -> None:
    assert "no collector listens at this broker (start one: edgeloop collect --mqtt" in refused(broker.url)


def test_a_late_acknowledgement_is_not_taken_for_the_next_batchs(broker: Mosquitto, store: Store) -> None:
    slow: list[bool] = []

    class Slow(Ingest):
        def handle_all(self, requests: Sequence[Request]) -> list[Ack | Exception]:
            if slow.pop() if slow else False:
                time.sleep(1.0)
            return super().handle_all(requests)

    listener = listening(broker.url, Slow(store))
    with closing(open_transport(broker.url, device="pi-1")) as transport:
        assert transport.send([small_body(1)], 60.0).accepted == ((BOOT, 1, 1),)  # what comes is no first contact
        slow.append(True)
        with pytest.raises(NotAcknowledgedError, match="no collector acknowledged in time"):
            transport.send([small_body(2)], 0.3)
        assert transport.send([small_body(3)], 60.0).accepted == ((BOOT, 3, 3),)
    listener.stop()


@pytest.mark.slow
def test_a_crash_between_delivery_and_commit_loses_nothing_though_the_device_is_gone(
    broker: Mosquitto, store: Store
) -> None:
    """The broker's memory alone: what was not acknowledged to it comes again to the same client id."""
    url = f"{broker.url}?client=one"
    taken: list[bytes] = []
    link = Link(
        parse_broker(parse_address(broker.url)), subscribe_to="edgeloop/v1/+/reports", subscribe_qos=1,
        on_message=lambda _link, message: taken.append(message.payload), max_packet_bytes=1 << 20, client_id="one",
        remembered_s=60,
    )  # fmt: skip
    link.open(60.0)  # a collector that gets a batch and dies before it commits
    with closing(open_transport(broker.url, device="pi-1")) as transport, pytest.raises(NotAcknowledgedError):
        transport.send([small_body(1)], 10.0)
    wait_until(lambda: len(taken) == 1, "taken")
    link.close()
    listener = listening(url, Ingest(store))
    wait_until(lambda: stored(store) == [1], "delivered again by the broker")
    listener.stop()


def test_a_lost_puback_is_a_duplicate_that_is_stored_once(
    broker: Mosquitto, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = Ingest(store)
    lost = [True]
    done = Link.done

    def forget(link: Link, message: object) -> None:
        """Answers the device; its acknowledgement to the broker is lost."""
        if not lost:
            done(link, message)

    monkeypatch.setattr(Link, "done", forget)
    forgetful = listening(f"{broker.url}?client=one", ingest)
    with closing(open_transport(broker.url, device="pi-1")) as transport:
        assert transport.send([small_body(1)]).accepted == ((BOOT, 1, 1),)
    forgetful.stop()
    lost.clear()
    listener = listening(f"{broker.url}?client=one", ingest)
    wait_until(lambda: ingest.metrics.snapshot()[0].get("reports_duplicate") == 1, "came again")
    assert stored(store) == [1]
    listener.stop()


def test_a_store_that_is_away_means_no_answer_and_the_device_keeps_its_reports(
    broker: Mosquitto, store: Store, tmp_path: Path
) -> None:
    away = [True]

    class Away(Ingest):
        def handle_all(self, requests: Sequence[Request]) -> list[Ack | Exception]:
            if away:
                return [StoreUnavailableError("locked") for _ in requests]
            return super().handle_all(requests)

    listener = listening(broker.url, Away(store))
    spool = Spool(tmp_path / "spool.db")
    spool.put(small_body(1), BOOT, 1)
    with closing(open_transport(broker.url, device="pi-1")) as transport:
        courier = Courier(spool, transport, timeout_s=SHORT_S)
        assert not courier.deliver().done
        away.clear()
        assert Courier(spool, transport, timeout_s=60.0).deliver().done
    assert stored(store) == [1]
    spool.close()
    listener.stop()


def test_batches_of_many_devices_that_wait_are_committed_together(broker: Mosquitto, store: Store) -> None:
    together: list[int] = []

    class Slow(Ingest):
        def handle_all(self, requests: Sequence[Request]) -> list[Ack | Exception]:
            together.append(len(requests))
            time.sleep(0.3)
            return super().handle_all(requests)

    def send(device: str) -> int:
        body = encode_report(small_report(1, device=device))
        with closing(open_transport(broker.url, device=device)) as transport:
            return len(transport.send([body], 10.0).accepted)

    listener = listening(broker.url, Slow(store))
    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(send, [f"pi-{n}" for n in range(12)])) == 12
    listener.stop()
    assert sum(together) == 12 and max(together) > 1
    assert store.counts().reports == 12


def test_nonsense_and_retained_messages_change_nothing(broker: Mosquitto, store: Store) -> None:
    from paho.mqtt import publish

    listener = listening(broker.url, Ingest(store))
    for topic in ("edgeloop/v1/pi-1/reports", "edgeloop/v1/pi%2D1/reports", "edgeloop/v1//reports"):
        for retained in (False, True):
            publish.single(topic, "nonsense", qos=1, retain=retained, hostname="127.0.0.1", port=broker.port)
    with closing(open_transport(broker.url, device="pi-1")) as transport:
        assert transport.send([small_body(1)]).accepted == ((BOOT, 1, 1),)
    listener.stop()


@pytest.mark.slow
def test_a_broker_that_goes_and_comes_is_said_once_each(broker: Mosquitto, store: Store) -> None:
    said: list[str] = []
    listener = listening(broker.url, Ingest(store, Notices(said.append)))
    broker.stop()
    wait_until(lambda: len(said) == 1, "said that it is lost")
    time.sleep(1.5)  # two tries
    broker.start()
    wait_until(lambda: len(said) == 2, "said that it is back")
    assert "is lost" in said[0] and "it is tried again" in said[0]
    assert said[1].endswith("is back")
    listener.stop()


@pytest.mark.slow
def test_two_collectors_of_one_client_id_are_told_and_of_two_store_once(broker: Mosquitto, store: Store) -> None:
    said: list[str] = []
    ingest = Ingest(store, Notices(said.append))
    first = listening(f"{broker.url}?client=a", ingest)
    second = listening(f"{broker.url}?client=b", ingest)
    with closing(open_transport(broker.url, device="pi-1")) as transport:
        assert transport.send([small_body(1)]).accepted == ((BOOT, 1, 1),)
    wait_until(lambda: ingest.metrics.snapshot()[0].get("reports_duplicate") == 1, "the other one had it, too")
    assert stored(store) == [1]
    third = listening(f"{broker.url}?client=b", ingest)
    wait_until(lambda: any("same client id? (give one of them ?client=NAME)" in line for line in said), "told")
    assert len(said) < 12
    for listener in (first, second, third):
        listener.stop()


def test_tls_and_passwords_refuse_in_plain_words_and_show_no_secret(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates, strangers = Certificates(tmp_path / "ours"), Certificates(tmp_path / "theirs")
    broker = Mosquitto(tmp_path, certificates)
    here = f"mqtts://127.0.0.1:{broker.port}"
    try:
        listener = listening(broker.url, Ingest(store))
        with closing(open_transport(broker.url, device="pi-1")) as transport:
            assert transport.send([small_body(1)]).accepted == ((BOOT, 1, 1),)
        assert PASSWORD not in repr(parse_broker(parse_address(broker.url)))
        ours = f"{here}?ca={certificates.ca}"
        assert "wants a user and a password (set EDGELOOP_MQTT_USER" in refused(ours)
        monkeypatch.setenv("EDGELOOP_MQTT_USER", USER)
        monkeypatch.setenv("EDGELOOP_MQTT_PASSWORD", "not it")
        said = refused(ours)
        assert "refuses the user or the password" in said and "not it" not in said
        monkeypatch.setenv("EDGELOOP_MQTT_PASSWORD", PASSWORD)
        assert "no collector" not in _sends(ours)
        assert "its certificate was refused" in refused(f"{here}?ca={strangers.ca}")
        assert "its certificate was refused" in refused(here)
        assert "does it want TLS" in refused(here.replace("mqtts", "mqtt"))
        listener.stop()
    finally:
        broker.stop()
    assert "is not reachable: Connection refused (is the broker running?)" in refused(broker.url)


def _sends(url: str) -> str:
    with closing(open_transport(url, device="pi-1")) as transport:
        return str(transport.send([small_body(2)]))


def test_an_expired_certificate_and_a_wrong_protocol_are_named(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path, expired=True)
    broker = Mosquitto(tmp_path, certificates)
    try:
        assert "expired" in refused(broker.url)
    finally:
        broker.stop()
    plain = Mosquitto(tmp_path)
    try:
        assert "no TLS there" in refused(f"mqtts://127.0.0.1:{plain.port}?ca={certificates.ca}")
    finally:
        plain.stop()


def test_a_broker_that_wants_a_certificate_gets_ours(tmp_path: Path, store: Store) -> None:
    certificates = Certificates(tmp_path)
    broker = Mosquitto(tmp_path, certificates, "require_certificate true")
    try:
        assert "does it want a certificate" in refused(broker.url)
        url = f"{broker.url}&cert={certificates.client}&key={certificates.client_key}"
        listener = listening(url, Ingest(store))
        with closing(open_transport(url, device="pi-1")) as transport:
            assert transport.send([small_body(1)]).accepted == ((BOOT, 1, 1),)
        listener.stop()
    finally:
        broker.stop()


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(range(1, 256)), b"\x20\xff\xff\xff\x7f"]
)
def test_what_is_no_broker_is_told_and_ends_in_time(answer: bytes) -> None:
    def script(connection: socket.socket) -> None:
        connection.sendall(answer)
        while connection.recv(4096):
            pass

    began_s = time.monotonic()
    with SilentTcp(script) as stranger:
        url = stranger.url.replace("http", "mqtt")
        with closing(open_transport(url, device="pi-1")) as transport, pytest.raises(NotAcknowledgedError) as caught:
            transport.send([small_body(1)], SHORT_S)
    assert str(caught.value).startswith(url) and "\n" not in str(caught.value)
    assert time.monotonic() - began_s < 60


def test_an_acl_that_forbids_a_topic_is_named(tmp_path: Path, store: Store) -> None:
    (tmp_path / "acl").write_text("topic readwrite edgeloop/v1/pi-1/#\ntopic read edgeloop/v1/+/acks\n")
    broker = Mosquitto(tmp_path, None, f"acl_file {tmp_path / 'acl'}")
    try:
        assert "does not take reports of 'pi-2' from us: Not authorized (check the broker's ACL)" in refused(
            broker.url, "pi-2"
        )
    finally:
        broker.stop()


def test_a_private_broker_as_in_the_docs_lets_each_device_report_for_itself_alone(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[3] / "docs/telemetry.md").read_text(encoding="utf-8")
    acl = [line.strip() for line in page.partition("    # acl\n")[2].partition("\n\n")[0].splitlines()]
    (tmp_path / "acl").write_text("\n".join(acl).replace("user collector", f"user {USER}") + "\n")
    certificates = Certificates(tmp_path)
    broker = Mosquitto(tmp_path, certificates, f"acl_file {tmp_path / 'acl'}")
    broker.add_user("a%20b", "secret")
    broker.stop()
    broker.start()
    try:
        listener = listening(broker.url, Ingest(store))
        monkeypatch.setenv("EDGELOOP_MQTT_USER", "a%20b")
        monkeypatch.setenv("EDGELOOP_MQTT_PASSWORD", "secret")
        url = f"mqtts://127.0.0.1:{broker.port}?ca={certificates.ca}"
        with closing(open_transport(url, device="a b")) as transport:
            (rejected,) = transport.send([small_body(1)]).rejected  # it is pi-1's
        assert rejected.reason == "is from another device"
        assert "check the broker's ACL" in refused(url, "pi-1")
        listener.stop()
    finally:
        broker.stop()


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("mqtt://me:s3cret@host", UsageError, "takes no user or password"),
        ("mqtt://me:s3/cret@host", UsageError, "cannot be read"),
        ("mqtt://", UsageError, "names no broker"),
        ("mqtt://host/topic", UsageError, "names no broker"),
        ("mqtt://host?ca=x.pem", UsageError, "needs mqtts"),
        ("mqtt://host?qos=2", UsageError, "unknown option"),
        ("mqtts://host?ca=/not/there.pem", ConfigError, "cannot be used"),
        ("mqtts://host?cert=/not/there.pem", ConfigError, "cannot be used"),
        ("mqtts://host?key=/not/there.pem", ConfigError, "has no certificate"),
        ("mqtt://host?login=/not/there", ConfigError, "No such file"),
    ],
)
def test_a_wrong_url_is_told_before_anything_starts(url: str, error: type[UsageError], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        open_transport(url, device="pi-1")
    assert "s3" not in str(caught.value)


def test_without_a_device_or_its_package_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="needs the device's name"):
        open_transport("mqtt://host")
    monkeypatch.setattr("edgeloop.telemetry.transports.mqtt_link.find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match="mqtt"):
        open_transport("mqtt://host", device="pi-1")
