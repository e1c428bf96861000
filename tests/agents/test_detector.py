"""A detector from picture to result line: through the runtime's own operator, and through our own suppression."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import edgeloop_agent
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.decoding import DetectionSettings
from edgeloop.postprocess.agreement import overlap
from support.agents import make_bundle, run_cli
from support.detectors import CELLS, RED_LABELS, SIDE, anchor_grid, red_detector, red_picture

ANCHORS = tuple(map(tuple, anchor_grid(CELLS, 16 / SIDE).tolist()))
FINISHED = DetectionSettings(0.4)
RAW = DetectionSettings(0.4, anchors=ANCHORS, background=True)


def bundle_of(path: Path, settings: DetectionSettings, resize: str) -> Path:
    spec = InputSpec(kind="image", size=(SIDE, SIDE), std=(255.0,), resize=resize)
    contract = Contract((spec,), OutputSpec("detection", RED_LABELS, settings=settings))
    return make_bundle(path, model=red_detector(finished=settings is FINISHED), contract=contract)


@pytest.mark.parametrize("settings", [FINISHED, RAW], ids=["operator", "ours"])
@pytest.mark.parametrize("resize", ["stretch", "letterbox", "crop"])
def test_the_red_thing_is_found_where_it_is(tmp_path: Path, settings: DetectionSettings, resize: str) -> None:
    frame = red_picture(480, 640, 140, 300, 90)
    with edgeloop_agent.open(bundle_of(tmp_path / "r.bundle", settings, resize)) as model:
        result = model(frame)
    assert result.label == "red thing"
    best = result.detections[0]
    assert best.box.left <= 300 <= best.box.right
    assert best.box.top <= 140 <= best.box.bottom
    assert all(overlap(best.box, other.box) <= settings.iou for other in result.detections[1:])


def test_a_result_line_has_the_detections(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), red_picture(480, 640, 140, 300, 90))
    cv2.imwrite(str(folder / "b.png"), red_picture(480, 640, 140, 300, 0))
    bundle = bundle_of(tmp_path / "r.bundle", RAW, "letterbox")
    done = run_cli(
        "run", "--bundle", bundle, "--source", f"folder:{folder}", "--sink", f"jsonl:{tmp_path / 'out.jsonl'}",
        "--state", tmp_path / "state",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert first["detections"][0]["label"] == "red thing"
    assert len(first["detections"][0]["box"]) == 4
    assert second["detections"] == []


@pytest.mark.slow
def test_the_agent_names_the_nearest_of_its_own_gallery(tmp_path: Path) -> None:
    spec = InputSpec(kind="image", size=(SIDE, SIDE), std=(255.0,))
    contract = Contract((spec,), OutputSpec("embedding", index=1))
    bundle = make_bundle(tmp_path / "e.bundle", model=red_detector(finished=False), contract=contract)
    folder = tmp_path / "pictures"
    folder.mkdir()
    pictures = {name: red_picture(64, 64, y, x, 20) for name, (y, x) in {"left": (32, 14), "right": (32, 50)}.items()}
    for name, picture in pictures.items():
        cv2.imwrite(str(folder / f"{name}.png"), picture)
    with edgeloop_agent.open(bundle) as model:
        vectors = [model(picture).values[0] for picture in pictures.values()]
    np.savez(tmp_path / "known.npz", vectors=np.stack(vectors), labels=list(pictures))
    arguments = ("run", "--bundle", bundle, "--source", f"folder:{folder}", "--state", tmp_path / "state", "--gallery")
    done = run_cli(*arguments, tmp_path / "known.npz", "--sink", f"jsonl:{tmp_path / 'out.jsonl'}")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["top"][0]["label"] for line in lines] == ["left", "right"]
    wrong = run_cli(*arguments, tmp_path / "absent.npz")
    assert wrong.returncode == 2
    assert "absent.npz" in wrong.stderr and "Traceback" not in wrong.stderr
