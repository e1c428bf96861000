"""Real quantized Coral models (CPU twins of compiled ones) through bundle, contract and decoders, on real pictures."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import edgeloop_agent
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.contract_files import load_labels
from support.agents import make_bundle

Open = Callable[[str, InputSpec, OutputSpec], edgeloop_agent.Model]
SIGNED = {"mean": (128.0,), "std": (128.0,)}


@pytest.fixture
def coral(shared_data: Path) -> Path:
    return shared_data / "models" / "coral"


@pytest.fixture
def pictures(shared_data: Path) -> Path:
    return shared_data / "images"


@pytest.fixture
def opened(tmp_path: Path, coral: Path) -> Open:
    def open_one(name: str, spec: InputSpec, output: OutputSpec) -> edgeloop_agent.Model:
        model = (coral / f"{name}.tflite").read_bytes()
        return edgeloop_agent.open(make_bundle(tmp_path / "m.bundle", model=model, contract=Contract((spec,), output)))

    return open_one


def picture(path: Path) -> np.ndarray:
    found = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert found is not None
    return found


@pytest.mark.parametrize("resize", ["stretch", "letterbox", "crop"])
def test_movenet_finds_the_body_where_the_reference_has_it(
    opened: Open, coral: Path, pictures: Path, resize: str
) -> None:
    """The reference is the compiled model's on an accelerator with another scaler: 0.03 of the picture was seen."""
    frame = picture(pictures / "squat.bmp")
    height, width = frame.shape[:2]
    with (coral / "movenet_single_pose_lightning_ptq_reference.csv").open() as file:
        wanted = [(float(r["keypoint_x"]) * width, float(r["keypoint_y"]) * height) for r in csv.DictReader(file)]
    spec = InputSpec(kind="image", size=(192, 192), resize=resize)
    with opened("movenet_single_pose_lightning_ptq", spec, OutputSpec("keypoints")) as model:
        points = model(frame).keypoints
    assert [p.name for p in (points[0], points[5], points[16])] == ["nose", "left shoulder", "right ankle"]
    away = [max(abs(p.x - x) / width, abs(p.y - y) / height) for p, (x, y) in zip(points, wanted, strict=True)]
    # Cropped to a square the feet are at the edge, and limbs that the model is unsure of move: most must be near.
    assert max(away) < 0.05 if resize == "stretch" else float(np.median(away)) < 0.05
    assert float(np.mean([p.score for p in points])) > 0.4


@pytest.mark.parametrize(
    ("name", "size", "scaling"),
    [
        ("mobilenet_v2_1.0_224_quant", 224, SIGNED),
        ("tf2_mobilenet_v2_1.0_224_ptq", 224, {"mean": (127.5,), "std": (127.5,)}),
    ],
)
def test_mobilenet_names_what_is_in_the_picture(
    opened: Open, coral: Path, pictures: Path, name: str, size: int, scaling: dict[str, tuple[float, ...]]
) -> None:
    labels = load_labels(coral / "imagenet_labels.txt")
    with opened(
        name, InputSpec(kind="image", size=(size, size), **scaling), OutputSpec("classification", labels)
    ) as model:
        said = {file: model(picture(pictures / file)).label for file in ("cat.bmp", "grace_hopper.bmp", "parrot.jpg")}
    assert said == {"cat.bmp": "Egyptian cat", "grace_hopper.bmp": "military uniform", "parrot.jpg": "macaw"}


def test_deeplab_marks_the_bird_as_the_reference_mask_does(opened: Open, coral: Path, pictures: Path) -> None:
    labels = load_labels(coral / "pascal_voc_segmentation_labels.txt")
    spec = InputSpec(kind="image", size=(513, 513), **SIGNED)
    with opened("deeplabv3_mnv2_dm05_pascal_quant", spec, OutputSpec("segmentation", labels)) as model:
        result = model(picture(pictures / "bird_segmentation.bmp"))
        wide = model(cv2.resize(picture(pictures / "bird_segmentation.bmp"), (1026, 513)))
    assert result.mask is not None
    assert [share.label for share in result.mask.shares[:2]] == ["background", "bird"]
    assert abs(sum(share.share for share in result.mask.shares) - 1) < 1e-9
    wanted = cv2.imread(str(pictures / "bird_segmentation_mask.bmp"), cv2.IMREAD_UNCHANGED)
    bird = labels.index("bird")
    assert intersection_over_union(result.mask.class_ids == bird, wanted == bird) > 0.78  # 0.819 was seen
    assert wide.mask is not None
    at_source = wide.mask.at_picture(513, 1026)
    stretched = cv2.resize(wanted, (1026, 513), interpolation=cv2.INTER_NEAREST)
    assert intersection_over_union(at_source == bird, stretched == bird) > 0.78


def intersection_over_union(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())
