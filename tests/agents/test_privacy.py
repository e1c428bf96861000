"""No input leaves a device that was not told to: the agent runs on pictures, and every byte it sends is searched."""

from __future__ import annotations

import base64
import os
import socket
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from edgeloop.preprocess import compile_input, resize
from edgeloop.runtime import open_session
from edgeloop.telemetry.collector import start_collector
from edgeloop_agent.hard_samples.choosing import encoded
from support.agents import CONTRACT, Agents, digits_int8, make_bundle
from support.mosquitto import Mosquitto

WINDOW = 12
PICTURES = 4


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    made = Agents(tmp_path)
    yield made
    made.close()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Noise: twelve bytes of it in a row are found nowhere else."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n in range(PICTURES):
        cv2.imwrite(str(folder / f"{n}.png"), np.random.default_rng(n).integers(0, 256, (20, 24, 3)).astype(np.uint8))
    return folder


def windows(data: bytes) -> set[bytes]:
    return {data[at : at + WINDOW] for at in range(len(data) - WINDOW + 1)}


def inputs_of(folder: Path) -> set[bytes]:
    """Every run of bytes of the files, the pixels, and what the model was given of them; plain, in hex, in base64."""
    with open_session(digits_int8()) as session:
        prepare = compile_input(CONTRACT.inputs[0], session.inputs[0])
    forms: list[bytes] = []
    for path in sorted(folder.iterdir()):
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
        small = resize(pixels, 8, 8, "stretch")
        kept = encoded(small, is_rgb=False)[1]
        forms += [path.read_bytes(), pixels.tobytes(), small.tobytes(), np.asarray(prepare(pixels)).tobytes(), kept]
    found: set[bytes] = set()
    for form in forms:
        found |= windows(form) | windows(form.hex().encode())
        for shift in range(3):
            found |= windows(base64.b64encode(form[shift:]).rstrip(b"=")[:-4])
    plain = bytes(range(256)) + bytes(WINDOW)
    return {run for run in found if run not in plain and len(set(run)) > 4}


class Wire:
    """What a device sent, whichever way it went."""

    def __init__(self) -> None:
        self.sent = bytearray()

    def tell(self, data: bytes) -> None:
        self.sent += data

    def holds(self, runs: set[bytes]) -> bool:
        return not runs.isdisjoint(windows(bytes(self.sent)))


def _pump(source: int, target: int, tell: object) -> None:
    while True:
        try:
            data = os.read(source, 65536)
        except OSError:
            return
        if not data:
            return
        tell(data)  # type: ignore[operator]
        try:
            os.write(target, data)
        except OSError:
            return


@contextmanager
def tapped(host: str, port: int, wire: Wire) -> Iterator[int]:
    """A port that leads there; what clients send is recorded."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
                far = socket.create_connection((host, port))
            except OSError:
                return
            for source, target, tell in ((client, far, wire.tell), (far, client, lambda _data: None)):
                threading.Thread(target=_forward, args=(source, target, tell), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        server.close()


def _forward(source: socket.socket, target: socket.socket, tell: object) -> None:
    _pump(source.fileno(), target.fileno(), tell)
    for each in (source, target):
        try:
            each.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue


@contextmanager
def over_http(tmp_path: Path, wire: Wire) -> Iterator[str]:
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}") as collector:
        parts = urlsplit(collector.url)
        with tapped("127.0.0.1", parts.port or 0, wire) as port:
            yield f"http://127.0.0.1:{port}"


@contextmanager
def over_serial(tmp_path: Path, wire: Wire) -> Iterator[str]:
    (device, device_far), (collector_end, collector_far) = os.openpty(), os.openpty()
    for end in (device_far, collector_far):
        tty.setraw(end)
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}", serial_ports=[collector_far]):
        for source, target, tell in (
            (device, collector_end, wire.tell),
            (collector_end, device, lambda _data: None),
        ):
            threading.Thread(target=_pump, args=(source, target, tell), daemon=True).start()
        yield f"serial://{os.ttyname(device_far)}"


@contextmanager
def over_mqtt(tmp_path: Path, wire: Wire) -> Iterator[str]:
    broker = Mosquitto(tmp_path)
    try:
        with (
            start_collector(f"sqlite:///{tmp_path / 'x.db'}", brokers=[broker.url]),
            tapped("127.0.0.1", broker.port, wire) as port,
        ):
            yield f"mqtt://127.0.0.1:{port}"
    finally:
        broker.stop()


@contextmanager
def over_file(tmp_path: Path, wire: Wire) -> Iterator[str]:
    stick = tmp_path / "stick"
    stick.mkdir()
    yield f"file://{stick}"
    for path in stick.rglob("*"):
        if path.is_file():
            wire.tell(path.read_bytes())


WAYS = {"http": over_http, "mqtt": over_mqtt, "serial": over_serial, "file": over_file}


def run_agent(agents: Agents, tmp_path: Path, pictures: Path, url: str, table: str = "") -> str:
    config = tmp_path / "agent.toml"
    config.write_text(
        f'bundle = "{make_bundle(tmp_path / "d.bundle")}"\nsource = "folder:{pictures}"\nloop = true\nrate = 40\n'
        f'count = 60\ndevice = "pi-1"\ntelemetry = "{url}"\nreport_interval = 0.3\ngate = true\n{table}'
    )
    code, summary, said = agents.run("--config", config)
    assert code == 0, said
    assert summary["inferences"] > 0
    return said


@pytest.mark.slow
@pytest.mark.parametrize("way", list(WAYS))
def test_no_input_is_in_what_a_device_sends(way: str, agents: Agents, tmp_path: Path, pictures: Path) -> None:
    wire = Wire()
    with WAYS[way](tmp_path, wire) as url:
        run_agent(agents, tmp_path, pictures, url)
    assert len(wire.sent) > 300, "it sent reports"
    assert b"digits" in wire.sent
    assert not wire.holds(inputs_of(pictures))


@pytest.mark.slow
def test_the_search_finds_inputs_where_they_are(agents: Agents, tmp_path: Path, pictures: Path) -> None:
    """With hard samples turned on there are some, so the search above is one."""
    wire = Wire()
    table = "rate = 20\ncount = 80\n[hard_samples]\nenabled = true\nbelow_confidence = 1.0\n"
    with over_http(tmp_path, wire) as url:
        config = tmp_path / "agent.toml"
        config.write_text(
            f'bundle = "{make_bundle(tmp_path / "d.bundle")}"\nsource = "folder:{pictures}"\nloop = true\n'
            f'device = "pi-1"\ntelemetry = "{url}"\nreport_interval = 0.3\n{table}'
        )
        code, _summary, said = agents.run("--config", config)
    assert code == 0, said
    assert wire.holds(inputs_of(pictures))


@pytest.mark.slow
def test_turned_on_they_still_stay_where_the_way_is_not_private(agents: Agents, tmp_path: Path, pictures: Path) -> None:
    wire = Wire()
    table = "[hard_samples]\nenabled = true\nbelow_confidence = 1.0\n"
    with over_serial(tmp_path, wire) as url:
        said = run_agent(agents, tmp_path, pictures, url, table)
    assert "https only" in said
    assert list((tmp_path / "state").rglob("hard_samples/*.png")), "they are kept here"
    assert not wire.holds(inputs_of(pictures))
