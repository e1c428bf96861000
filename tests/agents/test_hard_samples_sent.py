"""Hard samples on their way: in pieces, after the reports, over a private line only, counted; what becomes of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeloop.cli.main import main
from edgeloop.errors import DeviceError
from edgeloop.preprocess import compile_input
from edgeloop.runtime import open_session
from edgeloop.telemetry.collector import CollectorHandle, start_collector
from edgeloop.telemetry.collector.http_server import Doors
from edgeloop.telemetry.collector.security.authority import Authority
from edgeloop.telemetry.samples.keeping import SampleKeeper, samples_folder
from edgeloop.telemetry.samples.wire import (
    FULL,
    MORE,
    PIECE_BYTES,
    REFUSED,
    STORED,
    About,
    Answer,
    decode_piece,
    encode_answer,
)
from edgeloop_agent.hard_samples.choosing import LOW_CONFIDENCE
from edgeloop_agent.hard_samples.folder import SampleFolder
from edgeloop_agent.hard_samples.sending import SampleSender, private_url
from support.agents import CONTRACT, Agents, digits_int8, frames, make_bundle, run_cli
from support.collecting import wait_until
from support.securing import prepare_store

ABOUT = About("png", LOW_CONFIDENCE, "ic", 3, "int8", 1e9, 0.4, '{"label": "cat"}')


class FakeLine:
    """A collector that takes what it is told to."""

    def __init__(self, answers: Callable[[Any], Answer | int | DeviceError]) -> None:
        self.answers, self.pieces = answers, []  # type: ignore[var-annotated]

    def post(self, path: str, body: bytes, timeout_s: float, limit: int) -> tuple[int, bytes]:
        piece = decode_piece(body)
        self.pieces.append(piece)
        answer = self.answers(piece)
        if isinstance(answer, DeviceError):
            raise answer
        return (answer, b"") if isinstance(answer, int) else (200, encode_answer(answer))

    def close(self) -> None:
        pass


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeloop_agent.hard_samples.sending.LOOK_EVERY_S", 0.01)
    monkeypatch.setattr("edgeloop_agent.hard_samples.sending.retry_delay_s", lambda *_: 0.01)


def put(folder: Path, count: int = 1, size: int = 100) -> SampleFolder:
    made = SampleFolder(folder)
    made.make()
    for n in range(count):
        made.put(bytes([n]) * size, ABOUT)
    return made


def test_samples_go_in_pieces_and_leave_the_device_when_they_are_there(quick: None, tmp_path: Path) -> None:
    folder = put(tmp_path, size=2 * PIECE_BYTES + 5)
    stored = bytearray()

    def take(piece: Any) -> Answer:
        assert piece.offset == len(stored)
        stored.extend(piece.data)
        return Answer(STORED) if piece.is_last else Answer(MORE, len(stored))

    line = FakeLine(take)
    sender = SampleSender("pi-1", [tmp_path], line, lambda: True, print)
    wait_until(lambda: sender.state()["sent"] == 1, "the sample is sent")
    sender.close()
    assert bytes(stored) == bytes(2 * PIECE_BYTES + 5)
    assert [len(piece.data) for piece in line.pieces] == [PIECE_BYTES, PIECE_BYTES, 5]
    assert folder.waiting() == []
    assert list(tmp_path.glob("*.png")) == []
    assert sender.state() == {"sent": 1, "sent_bytes": len(stored), "refused": 0, "waiting": 0, "trouble": ""}
    assert sender.take_sent(0) == {"hard_samples_sent": 1}
    assert sender.take_sent(0) == {}


def test_reports_go_first_and_a_collector_that_is_away_loses_nothing(quick: None, tmp_path: Path) -> None:
    folder = put(tmp_path, 3)
    may_send, said = False, []
    states: list[Any] = [
        DeviceError("is away"),
        503,
        Answer(STORED),
        Answer(REFUSED, reason="no"),
        Answer(FULL, 0, "enough"),
    ]
    line = FakeLine(lambda _piece: states.pop(0))
    sender = SampleSender("pi-1", [tmp_path], line, lambda: may_send, said.append)
    time.sleep(0.1)
    assert line.pieces == []
    may_send = True
    wait_until(lambda: not states, "every answer was given")
    wait_until(lambda: "enough" in sender.state()["trouble"], "the quota is said")
    sender.close()
    assert {name: sender.state()[name] for name in ("sent", "refused", "waiting")} == {
        "sent": 1,
        "refused": 1,
        "waiting": 1,
    }
    assert len(folder.waiting()) == 1
    assert any("is away" in line for line in said) and any("refused" in line for line in said)


def test_a_far_end_that_never_moves_on_is_not_fed_for_ever(quick: None, tmp_path: Path) -> None:
    put(tmp_path, size=10)
    line = FakeLine(lambda piece: Answer(MORE, piece.offset))
    sender = SampleSender("pi-1", [tmp_path], line, lambda: True, print)
    wait_until(lambda: "again and again" in sender.state()["trouble"], "it gives up for a while")
    sender.close()
    assert sender.state()["waiting"] == 1


@pytest.mark.parametrize(
    ("urls", "chosen"),
    [
        (["https://collector:8443?ca=ca.pem"], 0),
        (["http://127.0.0.1:8080"], 0),
        (["http://localhost:8080"], 0),
        (["serial:///dev/ttyUSB0", "mqtt://broker", "https://c"], 2),
        (["http://10.0.0.5:8080"], None),
        (["mqtts://broker", "file:///media/usb", "serial:///dev/ttyUSB0"], None),
        ([], None),
    ],
)
def test_samples_go_over_a_private_way_only(urls: list[str], chosen: int | None) -> None:
    assert private_url(urls) == (None if chosen is None else urls[chosen])


def test_without_such_a_way_they_stay_and_it_is_said(tmp_path: Path) -> None:
    put(tmp_path)
    said: list[str] = []
    sender = SampleSender("pi-1", [tmp_path], None, lambda: True, said.append)
    sender.close()
    assert "https only" in said[0]
    assert sender.state()["waiting"] == 1


def keeper_of(collector: CollectorHandle) -> SampleKeeper:
    return SampleKeeper(collector.store.database, samples_folder(collector.store.url))


def agent_config(tmp_path: Path, collector: CollectorHandle, table: str) -> Path:
    np.savez(tmp_path / "frames.npz", x=frames(40))
    path = tmp_path / "agent.toml"
    path.write_text(
        f'bundle = "{make_bundle(tmp_path / "d.bundle")}"\nsource = "npz:{tmp_path / "frames.npz"}"\nloop = true\n'
        f'rate = 50\ndevice = "pi-1"\ntelemetry = "{collector.url}"\nreport_interval = 0.3\n{table}'
    )
    return path


@pytest.mark.slow
def test_from_an_unsure_model_to_calibration_data_of_the_next_one(
    tmp_path: Path, digits_tflite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agents = Agents(tmp_path)
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}") as collector:
        table = "[hard_samples]\nenabled = true\nbelow_confidence = 0.9999\nmax_per_day = 12\n"
        agent = agents.start("--config", agent_config(tmp_path, collector, table))
        keeper = keeper_of(collector)
        agent.wait_until(lambda: len(keeper.find()) == 12, "sent 12 samples")
        status = run_cli("status", "--state", tmp_path / "state", "--json")
        text = run_cli("status", "--state", tmp_path / "state").stdout
        summary = agent.stop()
        samples = keeper.find()
        reports = [stored.report for stored in collector.store.reports()]
        assert json.loads(status.stdout)["hard_samples"]["sent"] == 12
        assert "hard samples: 12 sent, 0 waiting" in text
        assert sum(report.counters.get("hard_samples_sent", 0) for report in reports) == 12
        assert sum(report.counters.get("hard_samples_kept", 0) for report in reports) == 12
        assert summary["sink_errors"] == 0, "a chooser of samples is no sink that loses lines"
        assert {(s.device, s.bundle, s.version, s.kind) for s in samples} == {("pi-1", "digits", 7, "png")}
        originals = {frame.tobytes() for frame in frames(40)}
        seen = [cv2.imdecode(np.frombuffer(keeper.read(s), np.uint8), cv2.IMREAD_GRAYSCALE) for s in samples]
        assert all(each.tobytes() in originals for each in seen), "as the model saw them"

        calib = tmp_path / "calib"
        capsys.readouterr()
        assert main(["telemetry", "samples", "list", "--store", collector.url]) == 0
        assert capsys.readouterr().out.count("low_confidence") == 12
        assert main(["telemetry", "samples", "pull", "-o", str(calib), "--store", collector.url, "--json"]) == 0
        pulled = json.loads(capsys.readouterr().out)
        assert (pulled["samples"], pulled["new"], pulled["data"]) == (12, 12, f"{calib}/")
        answers = [json.loads(line) for line in Path(pulled["answers"]).read_text().splitlines()]
        assert {a["file"] for a in answers} == {path.name for path in calib.iterdir()}
        assert main(["telemetry", "samples", "pull", "-o", str(calib), "--store", collector.store.url, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["new"] == 0

        contract = tmp_path / "contract.toml"
        contract.write_text(
            '[input]\nkind = "image"\nsize = [8, 8]\ncolor = "gray"\nmean = 0.0\nstd = 255.0\nresize = "stretch"\n'
            '[output]\nkind = "classification"\n'
        )
        arguments = ["convert", str(digits_tflite), "--data", pulled["data"], "--contract", str(contract)]
        code = main([*arguments, "--effort", "fast", "--no-sign", "-o", str(tmp_path / "new.bundle"), "--json"])
        out = capsys.readouterr()
        assert code == 0, out.err
        assert json.loads(out.out)["variants"][0]["metrics"]["agreement"] > 0.5

        assert main(["telemetry", "samples", "delete", "--store", collector.url]) == 2
        assert main(["telemetry", "samples", "delete", "--device", "pi-1", "--store", collector.url]) == 0
        assert keeper.find() == []
        assert not any(keeper.folder.rglob("*.png"))
    agents.close()


def flickering_pair() -> np.ndarray:
    """Two frames that the gate takes for one and the model does not: a checkerboard of one level apart."""
    step = np.where(np.indices((8, 8)).sum(0) % 2 == 0, 1, -1)
    with open_session(digits_int8()) as session:
        prepare = compile_input(CONTRACT.inputs[0], session.inputs[0])
        for frame in frames(1000):
            other = np.clip(frame.astype(int) + step, 0, 255).astype(np.uint8)
            if len({int(np.argmax(session.run(prepare(each))[0])) for each in (frame, other)}) == 2:
                return np.stack([frame, other])
    raise AssertionError("no frame of 1000 flickers")


@pytest.mark.slow
def test_what_an_audit_of_the_gate_finds_is_sent_with_that_reason(tmp_path: Path) -> None:
    agents = Agents(tmp_path)
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}") as collector:
        table = "gate = true\naudit_every = 1\n[hard_samples]\nenabled = true\nbelow_confidence = 0.0\n"
        config = agent_config(tmp_path, collector, table)
        np.savez(tmp_path / "frames.npz", x=flickering_pair())
        agent = agents.start("--config", config)
        keeper = keeper_of(collector)
        agent.wait_until(keeper.find, "sent a sample")
        summary = agent.stop()
        assert summary["audits"]["different"] > 0
        assert {sample.reason for sample in keeper.find()} == {"audit_disagreement"}
    agents.close()


@pytest.mark.slow
def test_an_enrolled_agent_sends_them_over_mutual_tls(tmp_path: Path) -> None:
    agents = Agents(tmp_path)
    url, authority = f"sqlite:///{tmp_path / 't.db'}", Authority.create(tmp_path / "tls", ["127.0.0.1"])
    token = prepare_store(url)["enroll"]
    with start_collector(url, "0.0.0.0:0", doors=Doors(authority.folder)) as collector:
        config = agent_config(
            tmp_path, collector, "[hard_samples]\nenabled = true\nbelow_confidence = 1.0\nmax_per_day = 3\n"
        )
        text = config.read_text().replace(collector.url, f"{collector.url}?ca={authority.ca_path}")
        config.write_text(f'enroll_token = "{token}"\n{text}')
        agent = agents.start("--config", config)
        keeper = keeper_of(collector)
        agent.wait_until(lambda: len(keeper.find()) == 3, "sent 3 samples")
        agent.stop()
        assert {sample.device for sample in keeper.find()} == {"pi-1"}
    agents.close()


@pytest.mark.slow
def test_switched_off_nothing_is_kept_and_nothing_runs(tmp_path: Path) -> None:
    agents = Agents(tmp_path)
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}") as collector:
        config = agent_config(tmp_path, collector, "count = 60\n")
        code, _summary, _said = agents.run("--config", config)
        assert code == 0
        assert keeper_of(collector).find() == []
        names = {name for stored in collector.store.reports() for name in stored.report.counters}
        assert not any("hard" in name for name in names)
    assert not list((tmp_path / "state").rglob("hard_samples"))
