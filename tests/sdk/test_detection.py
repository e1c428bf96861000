"""Detections: our own suppression against the runtime's TFLite_Detection_PostProcess, layouts, boxes, odd numbers."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.affine import Affine, dequantize, quantize
from edgeloop.contract import OutputSpec
from edgeloop.decoding import DetectionSettings
from edgeloop.errors import ConfigError
from edgeloop.geometry import placement
from edgeloop.postprocess import Seen, compile_output
from edgeloop.postprocess.agreement import detections_agree, overlap
from edgeloop.postprocess.nms import suppress
from edgeloop.runtime import open_session
from support.detectors import anchor_grid, postprocess_model

LABELS = ("cat", "dog", "cow")
PLAIN = Affine()


@dataclass(frozen=True)
class Output:
    shape: tuple[int, ...]
    name: str = ""
    affine: Affine = PLAIN


def raw_answers(seed: int, anchors: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of up to half an anchor, and few clear scores among many low ones."""
    generator = np.random.default_rng(seed)
    boxes = generator.normal(0, 2, (1, len(anchors), 4)).astype(np.float32)
    scores = generator.uniform(0, 1, (1, len(anchors), 1 + classes)).astype(np.float32) ** 3
    return boxes, scores


@pytest.mark.parametrize("seed", range(5))
def test_raw_boxes_and_scores_give_what_the_runtimes_own_operator_gives(seed):
    anchors = anchor_grid()
    boxes, scores = raw_answers(seed, anchors, len(LABELS))
    with open_session(postprocess_model(anchors, len(LABELS), iou=0.4, threshold=0.3), delegate="cpu") as session:
        finished = compile_output(OutputSpec("detection", LABELS, settings=DetectionSettings(0.3)), session.outputs)
        for i, array in enumerate((boxes, scores)):
            session.set_input(i, array)
        session.invoke()
        wanted = finished([session.output(i) for i in range(4)])
    settings = DetectionSettings(
        0.3, 10, anchors=tuple(map(tuple, anchors.tolist())), background=True, iou=0.4
    )  # fmt: skip
    ours = compile_output(
        OutputSpec("detection", LABELS, settings=settings), [Output(boxes.shape), Output(scores.shape)]
    )
    found = ours([boxes, scores])
    assert len(wanted.detections) >= 3
    assert [(d.label, round(d.score, 5)) for d in found.detections] == [
        (d.label, round(d.score, 5)) for d in wanted.detections
    ]
    for mine, theirs in zip(found.detections, wanted.detections, strict=True):
        # The operator does not cut boxes to the picture; both are cut here.
        assert np.allclose(mine.box, theirs.box, atol=1e-5)


def test_boxes_come_back_to_the_source_through_the_letterbox():
    decode = compile_output(OutputSpec("detection", LABELS), [Output((1, 1, 4)), Output((1, 1, 3))])
    raw = [np.array([[[0.25, 0.0, 0.75, 0.5]]], np.float32), np.array([[[0.1, 0.9, 0.0]]], np.float32)]
    seen = Seen(placement(480, 640, 320, 320, "letterbox"))  # 240 rows of picture between bars of 40
    (found,) = decode(raw, seen).detections
    assert found.label == "dog"
    assert np.allclose(found.box, (0, 80, 320, 400))


def test_the_order_of_both_exporters_is_told_by_shapes():
    boxes, classes = np.array([[[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]]], np.float32), np.array([[2, 0]], np.float32)
    scores, count = np.array([[0.9, 0.8]], np.float32), np.array([1], np.float32)
    ours = {"boxes": boxes, "classes": classes, "scores": scores, "count": count}
    for order in (("boxes", "classes", "scores", "count"), ("scores", "boxes", "count", "classes")):
        raw = [ours[part] for part in order]
        result = compile_output(OutputSpec("detection", LABELS), [Output(a.shape) for a in raw])(raw)
        assert [(d.label, round(d.score, 3)) for d in result.detections] == [("cow", 0.9)]  # count says one
    raw = [ours[part] for part in ("classes", "count", "boxes", "scores")]
    outputs = [Output(a.shape, name) for a, name in zip(raw, "abcd", strict=True)]
    with pytest.raises(ConfigError, match="cannot be told") as told:
        compile_output(OutputSpec("detection", LABELS), outputs)
    assert "by name" in str(told.value.hint)
    said = DetectionSettings(boxes="c", scores="d", classes="a", count="b")
    assert compile_output(OutputSpec("detection", LABELS, settings=said), outputs)(raw).label == "cow"


@pytest.mark.parametrize(
    ("box_format", "box"),
    [
        ("yxyx", (10, 20, 30, 60)),
        ("xyxy", (20, 10, 60, 30)),
        ("cycxhw", (20, 40, 20, 40)),
        ("cxcywh", (40, 20, 40, 20)),
    ],
)
def test_every_box_format_in_pixels_means_the_same_box(box_format, box):
    settings = DetectionSettings(box_format=box_format, extent=(100, 200))
    decode = compile_output(OutputSpec("detection", settings=settings), [Output((1, 1, 4)), Output((1, 1, 1))])
    result = decode(
        [np.array([[box]], np.float32), np.ones((1, 1, 1), np.float32)], Seen(placement(50, 100, 9, 9, "stretch"))
    )
    assert np.allclose(result.detections[0].box, (10, 5, 30, 15))


def test_quantized_and_activated_scores():
    affine = Affine(0.1, 3)
    logits = quantize([[[2.0, -2.0]], [[-3.0, 1.0]]], affine, np.int8).reshape(1, 2, 2)
    boxes = np.array([[[0, 0, 0.4, 0.4], [0.5, 0.5, 1, 1]]], np.float32)
    outputs = [Output((1, 2, 4)), Output((1, 2, 2), affine=affine)]
    sigmoid = compile_output(OutputSpec("detection", settings=DetectionSettings(activation="sigmoid")), outputs)
    assert [(d.class_id, round(d.score, 3)) for d in sigmoid([boxes, logits]).detections] == [(0, 0.881), (1, 0.731)]
    settings = DetectionSettings(activation="softmax", background=True)
    softmax = compile_output(OutputSpec("detection", settings=settings), outputs)
    assert [(d.class_id, round(d.score, 3)) for d in softmax([boxes, logits]).detections] == [(0, 0.982)]


@pytest.mark.parametrize(
    ("outputs", "settings", "said"),
    [
        ([Output((1, 5, 4)), Output((1, 7, 2))], DetectionSettings(), "do not fit"),
        ([Output((1, 5, 4)), Output((1, 5, 2))], DetectionSettings(anchors=((0.5, 0.5, 1, 1),)), "1 anchors"),
        ([Output((1, 5, 4)), Output((1, 5, 2))], DetectionSettings(boxes=0), "only boxes is said"),
        ([Output((1, 5, 4)), Output((1, 5, 2))], DetectionSettings(boxes=0, scores=9), "no output"),
        ([Output((1, 5, 4)), Output((1, 5, 2))], DetectionSettings(), "3 labels"),
        ([Output((1, 10))], DetectionSettings(), "cannot be told"),
        ([Output((1, 5, 4)), Output((1, 5)), Output((1, 6)), Output((1,))], DetectionSettings(), "n boxes, classes"),
        ([Output((1, 5, 4)), Output((1, 5)), Output((1, 5)), Output((2,))], DetectionSettings(), "one count"),
    ],
)
def test_outputs_that_do_not_fit_are_one_clear_error(outputs, settings, said):
    with pytest.raises(ConfigError, match=said):
        compile_output(OutputSpec("detection", LABELS, settings=settings), outputs)


@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.floats(0, 1), st.integers(1, 20))
def test_suppression_keeps_the_best_and_nothing_that_overlaps_it(seed, n, iou, limit):
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 1, (n, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).reshape(n, 4)
    scores, classes = generator.uniform(0, 1, n).astype(np.float32), generator.integers(0, 3, n)
    kept = suppress(boxes, scores, classes, iou, limit)
    assert len(kept) == len(set(kept)) <= min(n, limit)
    assert list(scores[kept]) == sorted(scores[kept], reverse=True)
    if n:
        assert kept[0] == int(scores.argmax())
    places = [tuple(boxes[i]) for i in kept]
    for a in range(len(kept)):
        for b in range(a):
            if classes[kept[a]] == classes[kept[b]]:
                assert overlap_of(places[a], places[b]) <= iou + 1e-5


def overlap_of(a, b):
    from edgeloop.postprocess import Box

    return overlap(Box(a[1], a[0], a[3], a[2]), Box(b[1], b[0], b[3], b[2]))


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_whatever_the_model_answers_the_boxes_lie_in_the_picture(seed, broken):
    generator = np.random.default_rng(seed)
    boxes = generator.normal(0, 1e3, (1, 9, 4)).astype(np.float32)
    scores = generator.normal(0, 1e3, (1, 9, 2)).astype(np.float32)
    if broken:
        for array in (boxes, scores):
            array.reshape(-1)[generator.integers(0, array.size, 5)] = generator.choice([np.nan, np.inf, -np.inf], 5)
    anchors = ((0.5, 0.5, 1.0, 1.0),) * 9
    settings = DetectionSettings(activation="sigmoid", anchors=anchors)
    decode = compile_output(OutputSpec("detection", settings=settings), [Output((1, 9, 4)), Output((1, 9, 2))])
    for found in decode([boxes, scores], Seen(placement(30, 40, 8, 8, "crop"))).detections:
        assert 0 <= found.box.left <= found.box.right <= 40
        assert 0 <= found.box.top <= found.box.bottom <= 30


def test_agreement_counts_matched_boxes_of_the_same_class():
    decode = compile_output(OutputSpec("detection", LABELS), [Output((1, 2, 4)), Output((1, 2, 3))])
    boxes = np.array([[[0, 0, 0.4, 0.4], [0.5, 0.5, 1, 1]]], np.float32)
    both = decode([boxes, np.array([[[0.9, 0, 0], [0, 0.9, 0]]], np.float32)]).detections
    other = decode([boxes + 0.01, np.array([[[0.8, 0, 0], [0, 0, 0.8]]], np.float32)]).detections
    assert detections_agree(both, both) == 1.0
    assert detections_agree(both, other) == 0.5  # the second is of another class
    assert detections_agree((), ()) == 1.0
    assert detections_agree(both, ()) == 0.0


@given(
    st.floats(0.01, 0.99), st.floats(0.001, 0.2), st.integers(-128, 127), st.sampled_from(["none", "sigmoid"]),
    st.booleans(),
)  # fmt: skip
def test_what_is_left_out_early_is_below_the_threshold(threshold, scale, zero_point, activation, quantized):
    affine = Affine(scale, zero_point) if quantized else PLAIN
    codes = np.arange(-128, 128, dtype=np.int8).reshape(1, 256, 1)
    raw = codes if quantized else (codes.astype(np.float32) / 32)
    settings = DetectionSettings(threshold, 1000, activation=activation, iou=1.0)
    decode = compile_output(
        OutputSpec("detection", settings=settings), [Output((1, 256, 4)), Output((1, 256, 1), "", affine)]
    )
    values = dequantize(raw, affine).reshape(-1)
    scores = values if activation == "none" else (1 / (1 + np.exp(-values))).astype(np.float32)
    boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (1, 256, 1))
    found = decode([boxes, raw]).detections
    assert len(found) == int((scores >= np.float32(threshold)).sum())


@pytest.mark.parametrize("objectness", [False, True])
def test_joined_outputs_are_boxes_and_scores_side_by_side(objectness):
    generator = np.random.default_rng(3)
    boxes = generator.uniform(0.2, 0.8, (30, 4)).astype(np.float32)
    scores, certainty = (generator.uniform(0, 1, shape).astype(np.float32) for shape in ((30, 3), (30, 1)))
    parts = [boxes, certainty, scores] if objectness else [boxes, scores]
    rows = np.concatenate(parts, axis=1)[None]
    settings = DetectionSettings(0.3, box_format="cxcywh")
    wanted = compile_output(
        OutputSpec("detection", LABELS, settings=settings), [Output((1, 30, 4)), Output((1, 30, 3))]
    )([boxes[None], (scores * certainty if objectness else scores)[None]])
    assert len(wanted.detections) > 5
    for joined, array in (("rows", rows), ("columns", rows.transpose(0, 2, 1).copy())):
        settings = DetectionSettings(0.3, box_format="cxcywh", joined=joined, objectness=objectness)
        decode = compile_output(OutputSpec("detection", LABELS, settings=settings), [Output(array.shape, "out")])
        assert decode([array]).detections == wanted.detections
        with pytest.raises(ConfigError, match="joined boxes and scores are"):
            compile_output(OutputSpec("detection", settings=settings), [Output((1, 3, 4), "out")])


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -7.0, 1e9])
def test_a_finished_detection_with_odd_numbers_is_still_a_result(part, value):
    raw = [np.full((1, 3, 4), 0.5), np.zeros((1, 3)), np.full((1, 3), 0.9), np.full((1,), 3.0)]
    raw[part].reshape(-1)[0] = value
    arrays = [a.astype(np.float32) for a in raw]
    decode = compile_output(OutputSpec("detection", LABELS), [Output(a.shape) for a in arrays])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(decode(arrays).detections) <= 3
