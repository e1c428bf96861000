"""`edgeloop.telemetry.open`: the same answers from a store and from a running collector."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import edgeloop as el
from edgeloop.cli.main import main
from edgeloop.errors import DataError, DeviceError, EdgeloopError, RefusedError, UsageError
from edgeloop.telemetry.collector import CollectorHandle, start_collector
from edgeloop.telemetry.collector.security.audit import Audit
from edgeloop.telemetry.collector.security.registry import Registry
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.query import Telemetry
from edgeloop.telemetry.reading import Question
from edgeloop.telemetry.report import Report
from edgeloop.telemetry.samples.keeping import SampleKeeper, samples_folder
from edgeloop.telemetry.samples.wire import About, Piece
from edgeloop.telemetry.store.selection import Selection
from support.collecting import make_report, with_event
from support.postgres import PostgresServer

REPORTS: list[Report] = [
    *(make_report(n, device=f"pi-{n % 2}", version=2) for n in range(1, 601)),
    with_event(make_report(1, device="pi-9", version=3)),
    make_report(2, device="pi-9", bundle="kws", variant="float", latency={}),
]


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CollectorHandle]:
    with start_collector(f"sqlite:///{tmp_path_factory.mktemp('query') / 'x.db'}") as handle:
        handle.store.insert(REPORTS)
        yield handle


@pytest.fixture(params=["store", "collector"])
def telemetry(collector: CollectorHandle, request: pytest.FixtureRequest) -> Iterator[Telemetry]:
    with el.telemetry.open(collector.store.url if request.param == "store" else collector.url) as opened:
        yield opened


def invoke_of(device: str) -> Histogram:
    return Histogram.merged(r.latency["invoke"] for r in REPORTS if r.device == device and "invoke" in r.latency)


def test_the_designs_question_is_answered_exactly(telemetry: Telemetry) -> None:
    found = telemetry.latency("ic", version=2, stage="invoke", by="device").percentile(95)
    assert found == {device: invoke_of(device).percentile(95) for device in ("pi-0", "pi-1")}


def test_latency_groups_by_any_column_or_several(telemetry: Telemetry) -> None:
    by_version = telemetry.latency("ic", by="version")
    assert by_version.count() == {"2": 12_000, "3": 20}
    assert by_version.merged() == telemetry.histogram("ic")
    assert set(telemetry.latency(by=("device", "version")).histograms) == {("pi-0", "2"), ("pi-1", "2"), ("pi-9", "3")}
    assert telemetry.latency("nobody").percentile(50) == {}
    assert telemetry.histogram("ic", device="pi-9") == invoke_of("pi-9")
    with pytest.raises(DataError, match="group by"):
        telemetry.latency(by="weather")


def test_reports_come_whole_and_in_order_over_several_pages(telemetry: Telemetry) -> None:
    assert list(telemetry.reports()) == REPORTS
    assert [r.seq for r in telemetry.reports("ic", device="pi-1", until=REPORTS[3].time_s)] == [1, 3]
    assert [r.variant for r in telemetry.reports(variant="float")] == ["float"]


def test_devices_are_as_they_were_last_heard_of(telemetry: Telemetry) -> None:
    devices = telemetry.devices()
    assert [(d.device, d.last.seq, d.last.bundle) for d in devices] == [
        ("pi-0", 600, "ic"),
        ("pi-1", 599, "ic"),
        ("pi-9", 2, "kws"),
    ]
    assert [d.device for d in telemetry.devices("kws")] == ["pi-9"]


def test_events_know_their_device(telemetry: Telemetry) -> None:
    (event,) = telemetry.events("ic", kind="fallback")
    assert (event.device, event.version, event.detail) == ("pi-9", 3, "edgetpu -> xnnpack")
    assert list(telemetry.events(kind="restart")) == []


def test_events_of_a_kind_are_found_without_reading_reports(telemetry: Telemetry) -> None:
    (stored,) = telemetry.reader.events(Question(Selection(bundle="ic")), ["restart", "fallback"])
    (event,) = REPORTS[600].events
    assert (stored.device, stored.bundle, stored.kind, stored.detail) == ("pi-9", "ic", event.kind, event.detail)
    assert telemetry.reader.events(Question(), ["committed"]) == []
    assert telemetry.reader.events(Question(), [event.kind], after_id=stored.report_id) == []


def test_a_data_frame_has_a_row_per_report(telemetry: Telemetry) -> None:
    pandas = pytest.importorskip("pandas")
    frame = telemetry.to_pandas("ic", version=2)
    assert len(frame) == 600
    assert str(frame["time"].dtype).endswith("UTC]")
    assert frame["inferences"].sum() == 12_000
    table = telemetry.latency("ic", by="device").to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert table.loc["pi-1", "p95_ms"] == invoke_of("pi-1").percentile(95)
    assert len(telemetry.to_pandas("nobody")) == 0


def test_wrong_questions_are_named(telemetry: Telemetry) -> None:
    with pytest.raises(DataError, match="wether"):
        telemetry.latency("ic", wether=1)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="not a time"):
        telemetry.latency("ic", since="yesterday")
    assert telemetry.latency("ic", since="1h").count() == {}
    for ask in (telemetry.latency, telemetry.histogram):
        with pytest.raises(DataError, match=r"no report has a stage 'invok'; there are: capture, .*invoke"):
            ask("ic", stage="invok")


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://127.0.0.1:1", DeviceError),
        ("http://", UsageError),
        ("https://host?proxy=1", UsageError),
        ("http://me:secret@host", UsageError),
        ("https://host?ca=/nowhere.pem", EdgeloopError),
        ("sqlite:////nowhere/x.db", DataError),
        ("oracle://x", UsageError),
    ],
)
def test_places_that_cannot_be_read_are_errors_of_ours(url: str, error: type[EdgeloopError]) -> None:
    with pytest.raises(error), el.telemetry.open(url) as opened:
        list(opened.reports())


@pytest.fixture
def stranger() -> Iterator[tuple[str, dict[str, object]]]:
    """A server that answers as it is told, and what it was asked."""
    told: dict[str, object] = {"status": 200, "body": b"hello", "headers": {}}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told["asked"], told["token"] = self.path, self.headers.get("Authorization")
            self.send_response(int(told["status"]))  # type: ignore[call-overload]
            for name, value in told["headers"].items():  # type: ignore[attr-defined]
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(told["body"])  # type: ignore[arg-type]

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", told
    server.shutdown()
    server.server_close()


def test_the_token_comes_from_the_environment_and_goes_nowhere_else(
    stranger: tuple[str, dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, told = stranger
    monkeypatch.setenv("EDGELOOP_TOKEN", "s3cret")
    told["body"] = b"\x80"
    with el.telemetry.open(url) as opened:
        assert opened.devices() == []
        assert told["token"] == "Bearer s3cret"
        told.update(status=302, headers={"Location": f"{url}/elsewhere"})
        with pytest.raises(DeviceError, match="302"):
            opened.devices()
        assert "elsewhere" not in str(told["asked"])
        told.update(status=401, headers={})
        with pytest.raises(RefusedError, match="EDGELOOP_TOKEN"):
            opened.devices()


@pytest.mark.parametrize("body", [b"hello", b"\x81\x01", b"\x81\x83\x01\x01\x41\x00", b"\xa0", b"\x9f" * 5000, b""])
def test_an_answer_that_is_none_is_one_line(stranger: tuple[str, dict[str, object]], body: bytes) -> None:
    url, told = stranger
    told["body"] = body
    with pytest.raises(DeviceError), el.telemetry.open(url) as opened:
        list(opened.reports())
    with pytest.raises(DeviceError), el.telemetry.open(url) as opened:
        opened.latency()


def test_readme_grade_examples_run(collector: CollectorHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every python block of docs/collector.md that opens telemetry, with this store in the place of its own."""
    text = (Path(__file__).resolve().parents[3] / "docs" / "collector.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in text.split("```python\n")[1:]]
    examples = [block for block in blocks if "telemetry.open" in block]
    assert examples
    for example in examples:
        code = example.replace("sqlite:///telemetry.db", collector.store.url)
        exec(compile(code, "docs/collector.md", "exec"), {})  # noqa: S102


def test_groups_and_tags_are_those_of_the_registry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}") as collector:
        collector.store.insert([make_report(n, device=f"pi-{n % 4}") for n in range(1, 13)])
        registry = Registry(collector.store.database, Audit(collector.store.database))
        registry.set_group(["pi-1", "pi-2"], "line-2", by="me")
        registry.tag(["pi-2", "pi-3"], {"site": "berlin"}, [], by="me")
        for url in (collector.store.url, collector.url):
            with el.telemetry.open(url) as telemetry:
                assert {report.device for report in telemetry.reports(group="line-2")} == {"pi-1", "pi-2"}
                assert [d.device for d in telemetry.devices(tag="site=berlin")] == ["pi-2", "pi-3"]
                assert set(telemetry.latency(group="line-2", tag="site=berlin").histograms) == {"pi-2"}
                assert telemetry.histogram(group="line-2").count == 120
                assert telemetry.latency(group="nobody").count() == {}
                with pytest.raises(DataError, match="KEY=VALUE"):
                    telemetry.devices(tag="berlin")
            assert main(["monitor", "--json", "--group", "line-2", "--store", url]) == 0
            shown = json.loads(capsys.readouterr().out)["devices"]
            assert [device["device"] for device in shown] == ["pi-1", "pi-2"]
            path = tmp_path / "r.jsonl"
            options = ["--store", url, "--tag", "site=berlin", "--format", "jsonl", "-o", str(path)]
            assert main(["telemetry", "export", *options]) == 0
            assert len(path.read_text().splitlines()) == 6
            assert main(["telemetry", "export", "--store", url, "--format", "jsonl", "-o", str(path)]) == 0
            assert len(path.read_text().splitlines()) == 12
            path.unlink()
            capsys.readouterr()


def test_postgresql_answers_as_sqlite_does(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = postgres.new_database()
    monkeypatch.setenv("EDGELOOP_SAMPLES", str(tmp_path / "samples"))
    with start_collector(url) as collector:
        collector.store.insert(REPORTS[:40] + REPORTS[-2:])
        with el.telemetry.open(url) as telemetry, el.telemetry.open(collector.url) as far:
            assert list(telemetry.reports()) == list(far.reports()) == REPORTS[:40] + REPORTS[-2:]
            found = telemetry.latency("ic", version=2, stage="invoke", by="device")
            assert found.histograms == far.latency("ic", version=2, stage="invoke", by="device").histograms
            assert found.count() == {"pi-0": 400, "pi-1": 400}
            assert len(telemetry.devices()) == 3
            events = telemetry.reader.events(Question(), ["fallback"])
            assert [event.device for event in events] == ["pi-9"] and events == far.reader.events(
                Question(), ["fallback"]
            )
        keeper = SampleKeeper(collector.store.database, samples_folder(url))
        data = b"\x89PNG\r\n\x1a\n" + bytes(50)
        about = About("png", "low_confidence", "ic", 2**62, "int8", 1.0, 0.5, "{}")
        piece = Piece("pi-1", hashlib.sha256(data).digest(), len(data), 0, data, about)
        assert [keeper.take(piece, None).state for _ in range(2)] == ["stored", "duplicate"]
        path = tmp_path / "r.jsonl"
        assert main(["telemetry", "export", "--store", url, "--format", "jsonl", "-o", str(path)]) == 0
        assert len(path.read_text().splitlines()) == 42
        assert main(["telemetry", "samples", "pull", "--store", url, "-o", str(tmp_path / "calib"), "--json"]) == 0
        assert main(["monitor", "--once", "--store", url, "--sort", "p95"]) == 0
        assert "pi-1" in capsys.readouterr().out
