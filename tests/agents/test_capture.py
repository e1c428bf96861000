"""`edgeloop-agent capture`: varied frames, without loss, in a form that `edgeloop convert --data` takes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.errors import DataError, DeviceError, UsageError
from edgeloop.preprocess import resize
from edgeloop_agent.capture.capture import Captured, CaptureSettings, capture
from edgeloop_agent.capture.files import Arrays
from edgeloop_agent.capture.variety import Variety
from edgeloop_converters.data import open_data
from support import cameras, static_camera
from support.agents import make_bundle, run_cli


def scenes(folder: Path, count: int, *, size: tuple[int, int] = (64, 48), times: int = 1) -> list[np.ndarray]:
    """So many different pictures, each so often (with a little noise), as a folder of PNG files."""
    folder.mkdir()
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8) for _ in range(count)]
    for i, picture in enumerate(pictures):
        large = cv2.resize(cv2.resize(picture, (8, 8)), size, interpolation=cv2.INTER_NEAREST)
        pictures[i] = large
        for j in range(times):
            noisy = np.clip(large.astype(int) + (random.integers(-2, 3, large.shape) if j else 0), 0, 255)
            cv2.imwrite(str(folder / f"{i:03d}-{j}.png"), noisy.astype(np.uint8))
    return pictures


def run(source: str, output: Path, count: int = 100, **options: Any) -> tuple[Captured, list[str]]:
    said: list[str] = []
    return capture(CaptureSettings(source, output, count, **options), said.append), said


def test_pictures_are_kept_without_loss_and_near_copies_are_left_out(tmp_path: Path) -> None:
    pictures = scenes(tmp_path / "in", 5, times=4)
    done, _ = run(f"folder:{tmp_path / 'in'}", tmp_path / "calib")
    assert (done.saved, done.alike, done.errors, done.end) == (5, 15, 0, "end")
    assert done.frames == 20
    for i, picture in enumerate(pictures):
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / f"calib/{i + 1:06d}.png")), picture)
    assert len(open_data(tmp_path / "calib")) == 5


@pytest.mark.slow
def test_a_fixed_camera_gives_few_frames_and_every_one_where_copies_alone_are_left_out() -> None:
    frames = static_camera.frames(200)
    variety, copies = Variety(), Variety(0.0)
    kept = sum(variety.is_new(frame) for frame in frames)
    assert 1 <= kept < 100
    assert sum(copies.is_new(frame) for frame in frames) == 200
    assert not copies.is_new(frames[7])


def test_another_light_is_another_scene() -> None:
    frame = np.full((48, 64, 3), 100, np.uint8)
    variety = Variety()
    assert [variety.is_new(np.uint8(frame + by)) for by in (0, 5, 40, 42, 0)] == [True, False, True, False, False]


def test_a_second_capture_into_the_same_folder_goes_on(tmp_path: Path) -> None:
    scenes(tmp_path / "in", 6)
    first, _ = run(f"folder:{tmp_path / 'in'}", tmp_path / "calib", 4)
    second, said = run(f"folder:{tmp_path / 'in'}", tmp_path / "calib", 4)
    assert (first.saved, first.end) == (4, "count")
    assert (second.saved, second.alike, second.end) == (2, 4, "end")
    assert said == ["4 are there already; frames like them are left out, too"]
    assert sorted(p.name for p in (tmp_path / "calib").iterdir()) == [f"{i:06d}.png" for i in range(1, 7)]


@pytest.mark.parametrize("how", ["stretch", "letterbox", "crop"])
def test_with_a_bundle_pictures_have_the_geometry_of_its_model(tmp_path: Path, how: str) -> None:
    pictures = scenes(tmp_path / "in", 2, size=(80, 40))
    contract = Contract((InputSpec(kind="image", size=(8, 8), color="gray", resize=how),), OutputSpec("raw"))
    bundle = make_bundle(tmp_path / "a.bundle", contract=contract)
    done, _ = run(f"folder:{tmp_path / 'in'}", tmp_path / "calib", bundle=bundle)
    assert done.target == "generic-x86-64"
    saved = cv2.imread(str(tmp_path / "calib/000001.png"))
    np.testing.assert_array_equal(saved, resize(pictures[0], 8, 8, how))
    np.testing.assert_array_equal(saved, resize(saved, 8, 8, how))  # the converter's own resizing changes nothing


def test_pictures_for_a_model_of_sensor_values_are_refused_at_once(tmp_path: Path) -> None:
    scenes(tmp_path / "in", 2)
    contract = Contract((InputSpec(kind="tensor", shape=(8, 8, 1)),), OutputSpec("raw"))
    bundle = make_bundle(tmp_path / "a.bundle", contract=contract)
    with pytest.raises(
        DataError, match=r"gives uint8 \[48, 64, 3\], and the bundle's model takes samples of shape \[8"
    ):
        run(f"folder:{tmp_path / 'in'}", tmp_path / "calib", bundle=bundle)
    assert list((tmp_path / "calib").iterdir()) == []


def test_sensor_values_for_a_model_of_pictures_are_refused_at_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.zeros((4, 3), np.float32))
    bundle = make_bundle(tmp_path / "a.bundle")
    with pytest.raises(DataError, match="the bundle's model takes 8x8 pixels"):
        run(f"npz:{tmp_path / 'in.npz'}", tmp_path / "calib", bundle=bundle)


def test_arrays_are_kept_in_one_npz_that_the_converter_reads(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    np.savez(tmp_path / "in.npz", x=np.concatenate([samples, samples[:4]]))
    done, _ = run(f"npz:{tmp_path / 'in.npz'}", tmp_path / "calib")
    assert (done.saved, done.alike) == (10, 4)
    assert done.data == str(tmp_path / "calib/samples.npz")
    np.testing.assert_array_equal(np.load(done.data)["x"], samples)
    assert len(open_data(done.data)) == 10
    with pytest.raises(DataError, match="is there already"):
        run(f"npz:{tmp_path / 'in.npz'}", tmp_path / "calib")


def test_samples_of_another_shape_are_not_mixed_in(tmp_path: Path) -> None:
    keeper = Arrays(tmp_path)
    keeper.keep(np.zeros(3, np.float32))
    with pytest.raises(DataError, match=r"a sample of \{'x': \[2\]\}, and those before were \{'x': \[3\]\}"):
        keeper.keep(np.zeros(2, np.float32))
    keeper.keep(np.ones(3, np.float32))
    keeper.close()
    assert np.load(tmp_path / "samples.npz")["x"].shape == (2, 3)


def test_lines_of_a_sensor_become_samples(tmp_path: Path) -> None:
    sensor = cameras.Sensor()
    sensor.say_again_and_again(["1,2,3", "garbage", "7,8,9"])
    done, _ = run(f"serial://{sensor.path}", tmp_path / "calib", 2)
    sensor.close()
    assert (done.saved, done.end) == (2, "count")
    assert np.load(done.data)["x"].shape == (2, 3)


def test_a_live_source_that_gives_nothing_is_an_error_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"no frame for 0.5 s: .*/dev/video99 is not there"):
        run("camera:99", tmp_path / "calib", patience_s=0.5)


def test_it_stops_after_the_time_it_was_given(tmp_path: Path) -> None:
    server = cameras.mjpeg_server(lambda: (cameras.jpeg(1) for _ in range(1000)))
    began_s = time.monotonic()
    done, _ = run(f"http://127.0.0.1:{server.port}/", tmp_path / "calib", seconds=1.0)
    server.close()
    assert (done.saved, done.end) == (1, "time")
    assert done.alike > 3
    assert time.monotonic() - began_s < 60


def test_a_full_disk_ends_it_with_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes(tmp_path / "in", 3)
    sizes = iter([10**12, 10**12, 10**6])
    usage = type("usage", (), {})
    monkeypatch.setattr(
        "edgeloop_agent.capture.files.shutil.disk_usage", lambda _p: setattr(usage, "free", next(sizes)) or usage
    )
    done, said = run(f"folder:{tmp_path / 'in'}", tmp_path / "calib")
    assert (done.saved, done.end) == (2, "disk")
    assert "free on the disk" in said[-1]


def test_wrong_use_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        run("camera:0", tmp_path, 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file"):
        run("synthetic:", tmp_path / "file")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_text("no picture")
    with pytest.raises(DataError, match=r"no frame could be saved: .*damaged, or not an image"):
        run(f"folder:{tmp_path / 'in'}", tmp_path / "calib")


def test_the_verb_says_what_to_type_next(tmp_path: Path) -> None:
    scenes(tmp_path / "in", 3)
    done = run_cli("capture", "--source", f"folder:{tmp_path / 'in'}", "-o", tmp_path / "calib", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["saved"], said["frames"], said["end"]) == (3, 3, "end")
    assert said["next"] == f"edgeloop convert MODEL --data {tmp_path / 'calib'}/"
    again = run_cli("capture", "--source", "camera:x", "-o", tmp_path / "calib")
    assert again.returncode == 2


def test_an_interrupt_ends_it_with_what_there_is(tmp_path: Path) -> None:
    server = cameras.mjpeg_server(lambda: (cameras.jpeg(i) for i in range(100_000)))
    command = [sys.executable, "-m", "edgeloop_agent.cli", "capture", "--source", f"http://127.0.0.1:{server.port}/"]
    process = subprocess.Popen(
        [*command, "-o", str(tmp_path / "calib"), "--count", "100000", "--json"], stdout=subprocess.PIPE, text=True
    )
    try:
        deadline_s = time.monotonic() + 60
        while not (tmp_path / "calib/000003.png").exists() and time.monotonic() < deadline_s:
            time.sleep(0.05)
        process.terminate()
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        server.close()
    assert process.returncode == 0
    said = json.loads(out)
    assert said["end"] == "stop"
    assert said["saved"] == len(list((tmp_path / "calib").glob("*.png"))) >= 3
