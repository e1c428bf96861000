"""Hard samples at the collector: read as a stranger's, whole or not at all, within a quota, for operators only."""

from __future__ import annotations

import hashlib
import io
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.cli.main import main
from edgeloop.errors import DataError
from edgeloop.telemetry.collector.http_server import Doors
from edgeloop.telemetry.collector.security import identity as lookups
from edgeloop.telemetry.collector.security.audit import Audit
from edgeloop.telemetry.collector.security.authority import Authority
from edgeloop.telemetry.collector.server import start_collector
from edgeloop.telemetry.samples.aging import SampleAging
from edgeloop.telemetry.samples.keeping import Quota, SampleKeeper, SampleQuery, samples_folder
from edgeloop.telemetry.samples.wire import (
    DUPLICATE,
    FULL,
    MAX_SAMPLE_BYTES,
    MORE,
    REFUSED,
    SAMPLES_PATH,
    STATES,
    STORED,
    About,
    Answer,
    Piece,
    cut_about,
    decode_answer,
    decode_piece,
    encode_answer,
    encode_piece,
)
from edgeloop.telemetry.store import open_store
from edgeloop_agent.hard_samples.folder import SampleFolder
from edgeloop_agent.hard_samples.sending import SampleSender
from support.collecting import wait_until
from support.securing import Client, prepare_store

PNG = b"\x89PNG\r\n\x1a\n"
ABOUT = About("png", "low_confidence", "ic", 3, "int8", 1_750_000_000.5, 0.25, '{"label": "cat"}')


def sample(n: int = 0, size: int = 100) -> bytes:
    return PNG + bytes([n]) * (size - len(PNG))


def pieces(data: bytes, device: str = "pi-1", step: int = 40, about: About = ABOUT) -> list[Piece]:
    digest = hashlib.sha256(data).digest()
    return [Piece(device, digest, len(data), at, data[at : at + step], about) for at in range(0, len(data), step)]


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[SampleKeeper]:
    store = open_store(f"sqlite:///{tmp_path / 'x.db'}")
    yield SampleKeeper(store.database, tmp_path / "samples", Quota(per_day=3, total_bytes=1000))
    store.close()


def give(keeper: SampleKeeper, data: bytes, device: str = "pi-1", about: About = ABOUT) -> Answer:
    answer = Answer(MORE)
    for piece in pieces(data, device, about=about):
        answer = keeper.take(piece, device)
        if answer.state != MORE:
            break
    return answer


about_of = st.builds(
    About,
    st.sampled_from(["png", "npz"]),
    st.sampled_from(["low_confidence", "audit_disagreement"]),
    st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), max_size=120),
    st.integers(0, 2**63 - 1),
    st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), max_size=120),
    st.floats(0, 253402300799),
    st.none() | st.floats(0, 1),
    st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), max_size=2000),
)


@given(about_of, st.binary(min_size=1, max_size=50))
def test_a_piece_arrives_as_it_was(about: About, data: bytes) -> None:
    piece = Piece("pi-1", hashlib.sha256(data).digest(), len(data), 0, data, about)
    assert decode_piece(encode_piece(piece)) == piece


@given(st.sampled_from(STATES), st.integers(0, MAX_SAMPLE_BYTES), st.text(max_size=300))
def test_an_answer_is_understood(state: str, offset: int, reason: str) -> None:
    found = decode_answer(encode_answer(Answer(state, offset, reason)))
    assert (found.state, found.next_offset) == (state, offset)
    assert found.reason.isprintable()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.integers(0, 7), inner, max_size=8),
    max_leaves=20,
)


@given(st.binary(max_size=200) | anything.map(cbor2.dumps) | st.dictionaries(st.integers(0, 6), anything).map(
    lambda made: cbor2.dumps({**made, 0: 1})))  # fmt: skip
def test_hostile_bytes_are_no_sample_and_no_answer(body: bytes) -> None:
    for decode in (decode_piece, decode_answer):
        try:
            decode(body)
        except DataError:
            continue


@given(st.data())
def test_a_piece_with_one_wrong_field_is_refused(data: st.DataObject) -> None:
    good = cbor2.loads(encode_piece(pieces(sample())[0]))
    key = data.draw(st.integers(1, 6))
    good[key] = data.draw(st.sampled_from([None, -1, 2**70, "", "\x1b", b"", [], {}, True, float("nan")]))
    if key == 5 and good[key] == b"":
        return
    with pytest.raises(DataError):
        decode_piece(cbor2.dumps(good))


def test_what_a_device_says_of_a_sample_is_cut_to_what_travels() -> None:
    long = replace(ABOUT, bundle="b" * 500, variant="v" * 500, answer="a\n" * 5000)
    piece = Piece("pi-1", bytes(32), 1, 0, b"x", cut_about(long))
    assert len(decode_piece(encode_piece(piece)).about.answer) == 2000


def test_a_sample_is_stored_once_and_whole(keeper: SampleKeeper) -> None:
    assert give(keeper, sample()) == Answer(STORED)
    assert give(keeper, sample()) == Answer(DUPLICATE)
    (kept,) = keeper.find()
    assert (kept.device, kept.bytes, kept.reason, kept.confidence) == ("pi-1", 100, "low_confidence", 0.25)
    assert keeper.read(kept) == sample()
    assert give(keeper, sample(), device="pi-2") == Answer(STORED), "another device's is another sample"


def test_a_device_that_was_cut_off_goes_on_where_the_collector_stands(keeper: SampleKeeper) -> None:
    first, second, third = pieces(sample())
    assert keeper.take(first, None) == Answer(MORE, 40)
    assert keeper.take(first, None) == Answer(MORE, 40)
    assert keeper.take(third, None) == Answer(MORE, 40)
    assert keeper.take(second, None) == Answer(MORE, 80)
    assert keeper.take(third, None) == Answer(STORED)


def test_another_devices_name_damaged_and_foreign_files_are_refused(keeper: SampleKeeper) -> None:
    assert keeper.take(pieces(sample())[0], "pi-9") == Answer(REFUSED, 0, "is from another device")
    wrong = [replace(piece, sha256=bytes(32)) for piece in pieces(sample())]
    assert [keeper.take(piece, None).state for piece in wrong] == [MORE, MORE, REFUSED]
    assert give(keeper, b"MZ" + bytes(98)).state == REFUSED
    assert keeper.find() == []
    assert list(keeper.folder.rglob("*.part")) == []


def test_the_quota_holds_per_device_per_day_and_in_all(keeper: SampleKeeper) -> None:
    assert [give(keeper, sample(n)).state for n in range(4)] == [STORED, STORED, STORED, FULL]
    assert give(keeper, sample(0)).state == DUPLICATE
    assert give(keeper, sample(9), device="pi-2").state == STORED
    later = replace(keeper, clock=lambda: keeper.clock() + 2 * 86400)
    assert give(later, sample(5, 800)).state == FULL
    assert give(later, sample(5, 700)).state == STORED


def test_begun_samples_do_not_fill_the_disk(keeper: SampleKeeper) -> None:
    for n in range(30):
        assert keeper.take(pieces(sample(n))[0], None).state == MORE
    assert len(list(keeper.folder.rglob("*.part"))) <= 8


@pytest.mark.parametrize("device", ["..", "/etc/passwd", "a/../../b", "'; DROP TABLE hard_samples; --", "名" * 120])
def test_any_name_is_one_folder_below_ours(keeper: SampleKeeper, device: str) -> None:
    assert give(keeper, sample(), device=device).state == STORED
    (kept,) = keeper.find(SampleQuery(device=device))
    assert keeper.path(kept).resolve().parent.parent == keeper.folder.resolve()
    assert keeper.delete(SampleQuery(device=device)) == 1
    assert keeper.find() == []
    assert not keeper.path(kept).exists()


def test_a_file_that_is_gone_or_damaged_is_said(keeper: SampleKeeper) -> None:
    give(keeper, sample())
    (kept,) = keeper.find()
    keeper.path(kept).write_bytes(b"other")
    with pytest.raises(DataError, match="damaged"):
        keeper.read(kept)
    keeper.path(kept).unlink()
    with pytest.raises(DataError, match="EDGELOOP_SAMPLES"):
        keeper.read(kept)


def test_the_folder_is_beside_the_store_or_where_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert samples_folder("sqlite:////var/x.db") == Path("/var/x.db-samples")
    assert samples_folder("postgresql://host/db").name == "samples"
    monkeypatch.setenv("EDGELOOP_SAMPLES", str(tmp_path))
    assert samples_folder("sqlite:///x.db") == tmp_path


def arrays(value: float, shape: tuple[int, ...] = (1, 3)) -> bytes:
    out = io.BytesIO()
    np.savez(out, x=np.full(shape, value, np.float32))
    return out.getvalue()


def test_arrays_are_pulled_as_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    store = open_store(url)
    keeper = SampleKeeper(store.database, samples_folder(url))
    tensor = replace(ABOUT, kind="npz", bundle="kws")
    assert [give(keeper, arrays(n), about=tensor).state for n in (1.0, 2.0)] == [STORED, STORED]
    folder = tmp_path / "calib"
    pull = ["telemetry", "samples", "pull", "--store", url, "-o", str(folder), "--json"]
    assert main(pull) == 0
    assert json.loads(capsys.readouterr().out)["data"] == str(folder / "samples.npz")
    with np.load(folder / "samples.npz") as loaded:
        assert loaded["x"].tolist() == [[1, 1, 1], [2, 2, 2]]
    give(keeper, sample())
    assert main(pull) == 2
    assert "--bundle (ic, kws)" in capsys.readouterr().err
    assert main([*pull, "--bundle", "nobody"]) == 2
    give(keeper, arrays(3.0, (1, 4)), about=tensor)
    assert main([*pull, "--bundle", "kws"]) == 2
    assert "several shapes" in capsys.readouterr().err
    store.close()


def test_samples_are_wiped_by_age(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    store = open_store(url)
    keeper = SampleKeeper(store.database, samples_folder(url))
    give(replace(keeper, clock=lambda: 1000.0), sample(1))
    give(keeper, sample(2))
    assert main(["telemetry", "samples", "delete", "--before", "30d", "--store", url]) == 0
    assert [keeper.read(kept) for kept in keeper.find()] == [sample(2)]
    deleted = Audit(store.database).entries(action="samples.delete")
    assert [(entry.origin, entry.detail) for entry in deleted] == [("command line", {"count": 1})]
    store.close()


def test_a_collector_wipes_them_by_itself_where_it_was_told_to(keeper: SampleKeeper) -> None:
    audit = Audit(keeper.database)
    give(replace(keeper, clock=lambda: 1000.0), sample(1))
    give(keeper, sample(2))
    aging = SampleAging(keeper, audit, days=30, say=lambda _line: None)
    assert (aging.run_once(), aging.run_once()) == (1, 0)
    assert [keeper.read(kept) for kept in keeper.find()] == [sample(2)]
    assert [entry.detail for entry in audit.entries()] == [{"count": 1}]


def test_nobody_else_on_the_machine_sees_them(keeper: SampleKeeper) -> None:
    give(keeper, sample())
    (kept,) = keeper.find()
    assert [folder.stat().st_mode & 0o777 for folder in (keeper.folder, keeper.path(kept).parent)] == [0o700, 0o700]


def test_the_quota_of_a_collector_is_what_it_was_started_with(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    with start_collector(url, doors=Doors(samples=Quota(per_day=0, days=1.0))) as collector:
        (piece,) = pieces(sample(), step=1000)
        request = urllib.request.Request(
            f"{collector.url}{SAMPLES_PATH}", encode_piece(piece), {"Content-Type": "application/cbor"}
        )
        with urllib.request.urlopen(request) as answer:
            assert decode_answer(answer.read()).state == FULL


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["pull"], "-o DIR"),
        (["list", "-o", "x"], "-o DIR"),
        (["delete"], "--all"),
        (["delete", "--before", "soon"], "--before: not a time"),
        (["list", "--store", "http://127.0.0.1:1"], "not reachable"),
        (["list", "--store", "sqlite:////nowhere/x.db"], "no telemetry store"),
    ],
)
def test_wrong_use_is_named(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["telemetry", "samples", *options]) in (2, 3)
    assert words in capsys.readouterr().err


def test_over_tls_a_device_sends_its_own_and_only_operators_see_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lookups, "KEPT_S", 0.0)
    monkeypatch.setattr("edgeloop_agent.hard_samples.sending.LOOK_EVERY_S", 0.05)
    url, authority = f"sqlite:///{tmp_path}/t.db", Authority.create(tmp_path / "tls", ["127.0.0.1"])
    tokens = prepare_store(url)
    with start_collector(url, "0.0.0.0:0", doors=Doors(authority.folder)) as handle:
        anonymous = Client(handle.url, authority.ca_path)
        device = anonymous.enroll(tokens["enroll"], "pi-1", tmp_path)
        body = encode_piece(pieces(sample(), step=1000)[0])
        forged = encode_piece(pieces(sample(), "pi-2", step=1000)[0])
        cbor = {"Content_Type": "application/cbor"}
        assert anonymous.ask("POST", "/v1/samples", body, **cbor)[0] == 401
        status, _headers, said = device.ask("POST", "/v1/samples", forged, **cbor)
        assert (status, decode_answer(said).state) == (200, REFUSED)
        status, _headers, said = device.ask("POST", "/v1/samples", body, **cbor)
        assert (status, decode_answer(said).state) == (200, STORED)
        assert device.ask("POST", "/v1/samples", body)[0] == 415
        assert device.ask("POST", "/v1/samples", b"x" * 200_000, **cbor)[0] == 413
        assert device.ask("POST", "/v1/samples", b"hello", **cbor)[0] == 400
        for who, expected in (("api", 403), ("root", 200)):
            asks = replace(anonymous, headers={"Authorization": f"Bearer {tokens[who]}"})
            assert asks.ask("GET", "/v1/samples")[0] == expected
            found = f"/v1/samples/file?device=pi-1&sha256={hashlib.sha256(sample()).hexdigest()}"
            assert asks.ask("GET", found)[0] == expected
            assert asks.ask("POST", "/v1/samples", body, **cbor)[0] == 403
        for path in ("/v1/samples", "/v1/samples/file"):
            assert device.ask("GET", path)[0] == 403, "not even the device gets them back"
        assert device.ask("DELETE", "/v1/samples?device=pi-1")[0] == 403

        from edgeloop.telemetry.transports import open_transport

        waiting = SampleFolder(tmp_path / "waiting")
        waiting.make()
        waiting.put(sample(7, 300_000), ABOUT)
        line = open_transport(f"{handle.url}?ca={authority.ca_path}&cert={device.certificate}")
        sender = SampleSender("pi-1", [waiting.path], line, lambda: True, print)  # type: ignore[arg-type]
        wait_until(lambda: sender.state()["sent"] == 1, "the sample went over mutual TLS")
        sender.close()

        store = f"{handle.url}?ca={authority.ca_path}"
        assert main(["telemetry", "samples", "list", "--store", store]) == 4
        assert "EDGELOOP_TOKEN" in capsys.readouterr().err
        monkeypatch.setenv("EDGELOOP_TOKEN", tokens["root"])
        assert main(["telemetry", "samples", "pull", "--store", store, "-o", str(tmp_path / "calib"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["samples"] == 2
        assert main(["telemetry", "samples", "delete", "--all", "--store", store]) == 0
        assert SampleKeeper(handle.store.database, samples_folder(url)).find() == []
        log = [(e.who, e.action) for e in Audit(handle.store.database).entries(action="samples.")]
        assert ("api script", "samples.list") in log
        log = [each for each in log if each[1] != "samples.list"]
        assert log == [("api script", "samples.read")] * 3 + [("api script", "samples.delete")]
