"""Agreement by what a model's answers mean: boxes, vectors, verdicts; and a detector through the whole conversion."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import edgeloop_agent
from edgeloop.bundle import Bundle
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.decoding import AnomalySettings, DetectionSettings, EmbeddingSettings
from edgeloop_converters.data.dataset import IMAGE, TENSOR, Dataset
from edgeloop_converters.evaluate import run_models, summarize
from edgeloop_converters.pipeline import convert
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_steps import plan_passes
from support.detectors import CELLS, RED_LABELS, SIDE, anchor_grid, red_detector, red_picture
from support.tiny_models import tiny_mlp

ANCHORS = tuple(map(tuple, anchor_grid(CELLS, 16 / SIDE).tolist()))
PLACES = [(100 + 7 * i, 120 + 11 * i) for i in range(24)]


def test_detectors_agree_by_their_boxes_however_they_end() -> None:
    pictures = [red_picture(320, 400, y, x, 60) for y, x in PLACES[:6]]
    data = Dataset(IMAGE, "red", len(pictures), lambda i: pictures[i])
    spec = InputSpec(kind="image", size=(SIDE, SIDE), std=(255.0,), resize="letterbox")
    output = OutputSpec("detection", RED_LABELS, settings=DetectionSettings(0.4, anchors=ANCHORS, background=True))
    raw = red_detector(finished=False)
    found = run_models({"float": raw, "same": raw}, Contract((spec,), output), data, reference="float")
    quality = summarize(found, "same", reference="float")
    assert (quality.agreement_kind, quality.metrics.agreement) == ("F1 of boxes at IoU 0.5", 1.0)
    assert quality.others == {}


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        (OutputSpec("embedding", ("a",), settings=EmbeddingSettings(gallery=((1.0,) * 10,))), "cosine"),
        (OutputSpec("anomaly", settings=AnomalySettings(None, "reconstruction")), "1 - relative error"),
        (OutputSpec("anomaly", settings=AnomalySettings(0.1, "reconstruction")), "same verdict"),
    ],
)
def test_vectors_and_anomalies_are_compared_with_the_reference(output: OutputSpec, kind: str) -> None:
    generator = np.random.default_rng(0)
    samples = generator.normal(0, 1, (8, 10)).astype(np.float32)
    data = Dataset(TENSOR, "d", 8, lambda i: samples[i])
    models = {"a": tiny_mlp(classes=10), "b": tiny_mlp(classes=10)}
    found = run_models(models, Contract((InputSpec("features", shape=(10,)),), output), data, reference="a")
    quality = summarize(found, "b", reference="a")
    assert (quality.agreement_kind, quality.metrics.agreement) == (kind, pytest.approx(1.0))


def test_a_detector_is_converted_with_its_contract(tmp_path: Path) -> None:
    (tmp_path / "red.tflite").write_bytes(red_detector(finished=False))
    (tmp_path / "pictures").mkdir()
    for i, (y, x) in enumerate(PLACES):
        cv2.imwrite(str(tmp_path / "pictures" / f"{i}.png"), red_picture(320, 400, y, x, 60))
    np.savez(tmp_path / "anchors.npz", anchors=anchor_grid(CELLS, 16 / SIDE))
    (tmp_path / "c.toml").write_text(
        f'[input]\nkind = "image"\nsize = [{SIDE}, {SIDE}]\nstd = 255.0\nresize = "letterbox"\n[output]\n'
        'kind = "detection"\nlabels = ["red thing"]\nboxes = "raw_boxes"\nscores = "raw_scores"\n'
        'anchors = "anchors.npz"\nbackground = true\nthreshold = 0.3\n'
    )
    made = convert(
        Recipe(
            str(tmp_path / "red.tflite"), "generic-x86-64", str(tmp_path / "pictures"),
            passes=plan_passes("int8", "aeq", "fast"), effort="fast", contract_file=str(tmp_path / "c.toml"),
        )
    )  # fmt: skip
    made.bundle.save(tmp_path / "red.bundle")
    manifest = Bundle.open(tmp_path / "red.bundle", allow_unsigned=True).manifest
    settings = manifest.contract.output.settings
    assert isinstance(settings, DetectionSettings)
    assert (settings.boxes, settings.scores, len(settings.anchors)) == (0, 1, 64)
    metrics = manifest.variants[0].metrics
    assert metrics is not None and metrics.agreement is not None and metrics.agreement > 0.9
    with edgeloop_agent.open(tmp_path / "red.bundle", allow_unsigned=True) as model:
        best = model(red_picture(320, 400, 150, 200, 60)).detections[0]
    assert best.box.left <= 200 <= best.box.right and best.box.top <= 150 <= best.box.bottom
