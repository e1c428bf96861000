"""`edgeloop_agent.open`, beyond one frame: batches, streams, threads, a gallery, what is said after the end."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

import edgeloop_agent
from edgeloop.contract import Contract, OutputSpec
from edgeloop.errors import ConfigError, DataError, UsageError
from support.agents import CONTRACT, frames, make_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "digits.bundle")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "pictures"
    place.mkdir()
    for i, frame in enumerate(frames(4)):
        cv2.imwrite(str(place / f"{i}.png"), frame)
    (place / "2.png").write_bytes(b"no picture")
    return place


def test_a_batch_is_its_frames_one_by_one(bundle: Path) -> None:
    samples = frames(3)
    with edgeloop_agent.open(bundle) as model:
        results = model.batch(samples)
        assert [r.top for r in results] == [model(frame).top for frame in samples]
        with pytest.raises(DataError, match="frame 1: an image must be uint8"):
            model.batch([samples[0], samples[1].astype(np.float32)])
        assert (model.name, model.version, model.contract.output.kind) == ("digits", 7, "classification")


def test_a_stream_gives_every_frame_with_its_name_and_result(bundle: Path, folder: Path) -> None:
    bad: list[str] = []
    with edgeloop_agent.open(bundle) as model:
        items = list(model.stream(f"folder:{folder}", on_bad_frame=lambda error: bad.append(str(error))))
        assert [(i.name, i.frame.shape) for i in items] == [(f"{i}.png", (8, 8, 3)) for i in (0, 1, 3)]
        assert items[0].result.top == model(items[0].frame).top
        assert ["2.png" in text for text in bad] == [True]
        with pytest.raises(DataError, match=r"2\.png"):
            list(model.stream(f"folder:{folder}"))
        assert len(list(model.stream("synthetic:", count=5))) == 5


def test_a_camera_that_is_away_is_a_warning_or_goes_to_who_asked(bundle: Path) -> None:
    class StopError(Exception):
        pass

    def stop(kind: str, detail: str) -> None:
        assert kind == "source_lost" and "/dev/video97 is not there" in detail
        raise StopError

    with edgeloop_agent.open(bundle) as model:
        with pytest.raises(StopError):
            next(model.stream("camera:97", on_event=stop))
        with warnings.catch_warnings(), pytest.raises(RuntimeWarning, match=r"source_lost: .*/dev/video97") as caught:
            warnings.simplefilter("error")
            next(model.stream("camera:97"))
    assert caught.traceback[0].path == Path(__file__)


def test_a_callback_ends_the_stream_by_false(bundle: Path, folder: Path) -> None:
    seen: list[str] = []

    def take(item: object) -> bool:
        seen.append(item.name)  # type: ignore[attr-defined]
        return len(seen) < 2

    with edgeloop_agent.open(bundle) as model:
        assert model.run(f"folder:{folder}", take) == 2
        assert model.run("synthetic:", lambda _item: None, count=3) == 3
    assert seen == ["0.png", "1.png"]


def test_an_unknown_source_is_said_at_once(bundle: Path) -> None:
    with edgeloop_agent.open(bundle) as model, pytest.raises(UsageError, match="is not known"):
        model.stream("webcam")


def test_threads_take_turns(bundle: Path) -> None:
    samples = frames(8)
    with edgeloop_agent.open(bundle) as model:
        wanted = [model(frame).top for frame in samples]
        found: list[list[object]] = [[] for _ in range(4)]

        def work(into: list[object]) -> None:
            for _ in range(25):
                into.append([model(frame).top for frame in samples])

        threads = [threading.Thread(target=work, args=(into,)) for into in found]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(tops == wanted for into in found for tops in into)


def test_a_closed_model_says_so(bundle: Path) -> None:
    model = edgeloop_agent.open(bundle)
    model.close()
    model.close()
    for use in (lambda: model(frames(1)[0]), lambda: model.stream("synthetic:")):
        with pytest.raises(UsageError, match="the model is closed"):
            use()


def test_a_gallery_of_the_devices_own_names_the_nearest(tmp_path: Path) -> None:
    contract = Contract(CONTRACT.inputs, OutputSpec("embedding"))
    bundle = make_bundle(tmp_path / "e.bundle", contract=contract)
    samples = frames(3)
    with edgeloop_agent.open(bundle) as model:
        vectors = np.stack([result.values[0] for result in model.batch(samples)])
    np.savez(tmp_path / "known.npz", vectors=vectors, labels=["one", "two", "three"])
    with edgeloop_agent.open(bundle, gallery=tmp_path / "known.npz") as model:
        assert model(samples[1]).top[0].score == pytest.approx(1.0, abs=1e-5)
        assert len({result.label for result in model.batch(samples)}) >= 1
    with pytest.raises(ConfigError, match="goes with an embedding"):
        edgeloop_agent.open(make_bundle(tmp_path / "c.bundle"), gallery=tmp_path / "known.npz")
