"""Segmentation, keypoints, embeddings, anomalies, thresholds and smoothing."""

from __future__ import annotations

import contextlib
import json
import warnings
from dataclasses import dataclass, fields

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgeloop.affine import Affine, dequantize
from edgeloop.contract import OUTPUT_KINDS, Contract, InputSpec, OutputSpec
from edgeloop.decoding import (
    SETTINGS,
    AnomalySettings,
    ClassificationSettings,
    EmbeddingSettings,
    KeypointsSettings,
    SegmentationSettings,
)
from edgeloop.errors import ConfigError, DataError, EdgeloopError
from edgeloop.geometry import placement
from edgeloop.postprocess import Result, Seen, compile_output
from edgeloop.postprocess.agreement import decided_alike
from edgeloop.postprocess.decoding import DECODERS

PLAIN = Affine()


@dataclass(frozen=True)
class Output:
    shape: tuple[int, ...]
    affine: Affine = PLAIN
    name: str = "out"


def decode_one(spec: OutputSpec, array: np.ndarray, affine: Affine = PLAIN, seen: Seen | None = None) -> Result:
    return compile_output(spec, [Output(array.shape, affine)])([array], seen or Seen())


def test_every_kind_of_the_contract_has_a_decoder():
    assert tuple(DECODERS) == OUTPUT_KINDS


# classification


def test_a_threshold_leaves_out_what_is_unlikely():
    scores = np.array([[0.1, 0.6, 0.3]], np.float32)
    settings = ClassificationSettings(threshold=0.3)
    spec = OutputSpec("classification", ("a", "b", "c"), settings=settings)
    assert [c.label for c in decode_one(spec, scores).top] == ["b", "c"]
    nothing = decode_one(OutputSpec("classification", settings=ClassificationSettings(threshold=0.9)), scores)
    assert (nothing.top, nothing.label, nothing.to_json()) == ((), "", {"top": []})
    assert decode_one(spec.per_sample, scores * 0.1).label == "b"


def test_smoothing_needs_a_keyword_in_several_windows():
    spec = OutputSpec("classification", ("noise", "yes"), settings=ClassificationSettings(1, 0.6, smoothing=3))
    decode = compile_output(spec, [Output((1, 2), Affine(1 / 256, -128))])
    said = []
    for yes in (0, 255, 0, 0, 255, 255, 255, 0):
        said.append(decode([np.array([[255 - yes - 128, yes - 128]], np.int8)]).label)
    assert said == ["noise", "", "noise", "noise", "noise", "yes", "yes", "yes"]


def test_a_broken_sample_does_not_stay_in_the_window():
    decode = compile_output(
        OutputSpec("classification", settings=ClassificationSettings(smoothing=2)), [Output((1, 2))]
    )  # fmt: skip
    decode([np.array([[np.nan, 1.0]], np.float32)])
    assert decode([np.array([[0.9, 0.1]], np.float32)]).score == pytest.approx(0.9)


# segmentation


def test_ids_scores_and_a_single_channel_make_the_same_mask():
    ids = np.array([[0, 1, 1], [0, 0, 1]])
    scores = np.eye(2, dtype=np.float32)[ids][None]
    labels = ("sky", "bird")
    for array in (ids[None].astype(np.int64), scores, scores[..., 1:]):
        mask = decode_one(OutputSpec("segmentation", labels), array).mask
        assert mask is not None
        assert mask.class_ids.tolist() == ids.tolist()
        assert [(s.label, s.share) for s in mask.shares] == [("sky", 0.5), ("bird", 0.5)]


def test_quantized_scores_and_thresholds_are_compared_as_codes():
    generator = np.random.default_rng(0)
    codes, affine = generator.integers(-128, 128, (1, 5, 7, 6)).astype(np.int8), Affine(0.02, -5)
    mask = decode_one(OutputSpec("segmentation"), codes, affine).mask
    assert mask is not None
    assert np.array_equal(mask.class_ids, codes[0].argmax(axis=-1))
    single = decode_one(OutputSpec("segmentation", settings=SegmentationSettings(0.7)), codes[..., :1], affine).mask
    assert single is not None
    # a value within half a step of the threshold may fall on either side
    assert np.array_equal(single.class_ids, dequantize(codes[0, :, :, 0], affine) >= 0.69)


def test_the_mask_of_a_letterboxed_picture_has_no_bars():
    ids = np.zeros((1, 8, 8), np.int64)
    ids[0, 2:6] = 3
    seen = Seen(placement(100, 200, 64, 64, "letterbox"))
    result = decode_one(OutputSpec("segmentation"), ids, seen=seen)
    assert result.mask is not None
    assert result.mask.class_ids.shape == (4, 8)
    assert result.mask.class_ids.min() == 3
    assert result.mask.box == (0, 0, 200, 100)
    cropped = decode_one(OutputSpec("segmentation"), ids, seen=Seen(placement(100, 200, 64, 64, "crop"))).mask
    assert cropped is not None
    assert cropped.box == (50, 0, 150, 100)


# keypoints


def test_keypoints_are_named_and_lie_in_the_source_picture():
    rows = np.zeros((1, 1, 17, 3), np.float32)
    rows[0, 0, 0] = (0.5, 0.25, 0.9)
    result = decode_one(OutputSpec("keypoints"), rows, seen=Seen(placement(100, 200, 64, 64, "stretch")))
    assert result.keypoints[0] == ("nose", 50.0, 50.0, pytest.approx(0.9))
    assert result.keypoints[16].name == "right ankle"


def test_keypoints_in_pixels_x_first_without_a_score():
    spec = OutputSpec("keypoints", ("tip", "base"), settings=KeypointsSettings("xy", (64.0, 64.0)))
    result = decode_one(spec, np.array([[[32, 16], [0, 64]]], np.float32))
    assert result.keypoints == (("tip", 0.5, 0.25, 1.0), ("base", 0.0, 1.0, 1.0))


# embedding


GALLERY = EmbeddingSettings(gallery=((1.0, 0.0), (0.0, 2.0), (0.6, 0.8)), threshold=0.5, top_k=2)
NAMES = ("ann", "bob", "ann")


def test_the_nearest_names_of_the_gallery_come_first_each_once():
    result = decode_one(OutputSpec("embedding", NAMES, settings=GALLERY), np.array([[0.3, 0.4]], np.float32))
    assert [(c.class_id, c.label, round(c.score, 4)) for c in result.top] == [(0, "ann", 1.0), (1, "bob", 0.8)]
    assert result.values[0].tolist() == pytest.approx([0.3, 0.4])
    assert "values" not in result.to_json()
    stranger = decode_one(OutputSpec("embedding", NAMES, settings=GALLERY), np.array([[-1.0, -1.0]], np.float32))
    assert (stranger.label, stranger.top) == ("", ())
    assert decode_one(OutputSpec("embedding", NAMES, settings=GALLERY), np.zeros((1, 2), np.float32)).top == ()


def test_without_a_gallery_an_embedding_is_its_vector():
    result = decode_one(OutputSpec("embedding"), np.array([[0, 4]], np.int8), Affine(0.5, 2))
    assert result.values[0].tolist() == [-1.0, 1.0]


# anomaly


def test_an_anomaly_is_above_the_threshold():
    spec = OutputSpec("anomaly", settings=AnomalySettings(0.5))
    assert decode_one(spec, np.array([[0.75]], np.float32)).anomaly == (0.75, 0.5, True)
    assert decode_one(spec, np.array([[0.25]], np.float32)).anomaly == (0.25, 0.5, False)
    assert decode_one(OutputSpec("anomaly"), np.array([[0.25]], np.float32)).anomaly == (0.25, None, None)


def test_an_autoencoder_is_judged_by_what_it_does_not_give_back():
    spec = OutputSpec("anomaly", settings=AnomalySettings(1.0, "reconstruction"))
    result = decode_one(
        spec, np.array([[1.0, 2.0]], np.float32), seen=Seen(inputs=[np.array([[1.0, 5.0]], np.float32)])
    )
    assert result.anomaly == (4.5, 1.0, True)


# all


def test_further_outputs_come_along_as_numbers():
    outputs = [Output((1, 2)), Output((1, 1, 2, 3)), Output((1, 3))]
    raw = [np.ones((1, 2), np.float32), np.zeros((1, 1, 2, 3), np.float32), np.ones((1, 3), np.float32)]
    result = compile_output(OutputSpec("keypoints", index=1), outputs)(raw)
    assert [v.shape for v in result.values] == [(1, 2), (1, 3)]


@pytest.mark.parametrize(
    ("spec", "shape", "said"),
    [
        (OutputSpec("keypoints"), (1, 10), "keypoints output is"),
        (OutputSpec("keypoints", ("a",)), (1, 2, 3), "2 keypoints"),
        (OutputSpec("segmentation"), (1, 10), "segmentation output is"),
        (OutputSpec("segmentation", ("a",)), (1, 4, 4, 3), "3 classes"),
        (OutputSpec("segmentation"), (1, 4, 4, 300), "255 classes"),
        (OutputSpec("anomaly"), (1, 10), "reconstruction"),
        (OutputSpec("embedding", NAMES, settings=GALLERY), (1, 8), "2 numbers and the model's output 8"),
        (OutputSpec("embedding", ("a",), settings=GALLERY), (1, 2), "1 labels"),
        (OutputSpec("raw", index=1), (1, 2), "output 1"),
    ],
)
def test_an_output_of_another_kind_is_one_clear_error(spec, shape, said):
    with pytest.raises(ConfigError, match=said):
        compile_output(spec, [Output(shape)])


def test_every_kind_agrees_with_itself():
    arrays = {
        "classification": np.array([[0.1, 0.9]], np.float32),
        "segmentation": np.array([[[0, 1], [1, 1]]]),
        "keypoints": np.random.default_rng(0).uniform(0, 1, (1, 1, 17, 3)).astype(np.float32),
    }
    for kind, array in arrays.items():
        result, other = (
            decode_one(OutputSpec(kind), a) for a in (array, array[:, ::-1] * 0 if array.ndim > 2 else 1 - array)
        )
        assert decided_alike(result, result) == 1.0
        assert (decided_alike(result, other) or 0.0) < 0.5
    assert decided_alike(Result("raw"), Result("raw")) is None


@pytest.mark.parametrize(
    "spec",
    [
        OutputSpec("embedding", NAMES, settings=GALLERY),
        OutputSpec("anomaly", settings=AnomalySettings(0.5, "reconstruction")),
        OutputSpec("classification", ("a",), settings=ClassificationSettings(1, 0.25, 4)),
    ],
)
def test_settings_travel_as_plain_values(spec):
    contract = Contract((InputSpec(shape=(2,)),), spec)
    assert Contract.from_dict(contract.to_dict()) == contract


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"kind": "classification", "iou": 0.5}, "no key 'iou'"),
        ({"kind": "detection", "iou": 2}, "from 0 to 1"),
        ({"kind": "detection", "threshold": "high"}, "'threshold' must be a number"),
        ({"kind": "detection", "anchors": [[1, 2, 3]]}, "needs 4 numbers"),
        ({"kind": "detection", "anchors": [[0.0] * 4] * 9000}, "do not travel"),
        ({"kind": "detection", "box_format": "corners"}, "cxcywh"),
        ({"kind": "detection", "boxes": -1}, "place"),
        ({"kind": "detection", "background": 1}, "true or false"),
        ({"kind": "classification", "smoothing": 0}, "from 1"),
        ({"kind": "keypoints", "extent": [0, 1]}, "above 0"),
        ({"kind": "anomaly", "threshold": float("nan")}, "number"),
        ({"kind": "raw", "threshold": 1}, "no key 'threshold'"),
        ({"kind": "classification", "treshold": 1}, "no key 'treshold'"),
    ],
)
def test_a_wrong_setting_is_one_clear_error(output, said):
    with pytest.raises(ConfigError) as told:
        Contract.from_dict({"inputs": [{"kind": "tensor"}], "output": output})
    assert said in f"{told.value.message} {told.value.hint}"


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(OUTPUT_KINDS), st.data())
def test_any_settings_give_a_contract_that_travels_or_an_edgeloop_error(kind, data):
    known = [f.name for f in fields(SETTINGS[kind])]
    keys = st.sampled_from(known) if known else st.text(max_size=6)
    likely = plain_values | st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), max_size=3)
    output = {"kind": kind, **data.draw(st.dictionaries(keys, likely, max_size=4))}
    with contextlib.suppress(EdgeloopError):
        contract = Contract.from_dict({"inputs": [{"kind": "tensor"}], "output": output})
        assert Contract.from_dict(contract.to_dict()) == contract


@given(
    st.sampled_from(OUTPUT_KINDS),
    st.lists(st.lists(st.integers(0, 5), max_size=4), min_size=1, max_size=4),
    st.booleans(),
)
@example("detection", [[], [], [], [0]], False)
@example("detection", [[], [], [], [1]], True)
@example("detection", [[0, 4], [], [], []], False)
def test_a_decoder_fits_any_outputs_or_says_that_it_does_not(kind, shapes, quantized):
    """What compiles decodes whatever numbers come, NaN among them; what a frame shows too late is refused."""
    affine = Affine(0.1, 3) if quantized else PLAIN
    unknown = kind == "detection" and not all(shapes)
    outputs = [Output(tuple(shape), affine, f"o{i}") for i, shape in enumerate(shapes)]
    try:
        decode = compile_output(OutputSpec(kind), outputs)
    except ConfigError:
        return
    generator = np.random.default_rng(0)
    for dtype in (np.int8,) if quantized else (np.float32,):
        raw = [generator.integers(-128, 128, shape).astype(dtype) for shape in shapes]
        if not quantized and raw[0].size:
            raw[0].reshape(-1)[0] = np.nan
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                result = decode(raw)
            except DataError:
                assert unknown
                return
        assert result.kind == kind
        json.dumps(result.to_json(), allow_nan=False)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vector_or_reconstruction_of_nan_is_a_result_without_a_match(value):
    broken = np.array([[value, 1.0]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_one(OutputSpec("embedding", NAMES, settings=GALLERY), broken).top == ()
        spec = OutputSpec("anomaly", settings=AnomalySettings(1.0, "reconstruction"))
        anomaly = decode_one(spec, broken, seen=Seen(inputs=[np.ones((1, 2), np.float32)])).anomaly
    assert anomaly is not None
    assert not np.isfinite(anomaly.score)
    assert anomaly.is_anomalous
