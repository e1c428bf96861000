"""Results: what they say of themselves, and their form for JSON."""

from __future__ import annotations

import json

import numpy as np

from edgeloop.postprocess import (
    NO_CLASS,
    Anomaly,
    Box,
    ClassScore,
    ClassShare,
    Detection,
    Keypoint,
    Mask,
    Result,
)

CAT = Detection(3, "cat", 0.75, Box(1.0, 2.0, 30.0, 40.0))


def test_the_json_form_has_the_parts_of_its_kind():
    forms = {
        Result("classification", (ClassScore(1, "b", 0.5),)): {
            "top": [{"class_id": 1, "label": "b", "score": 0.5}],
        },
        Result("detection", detections=(CAT,)): {
            "detections": [{"class_id": 3, "label": "cat", "score": 0.75, "box": [1.0, 2.0, 30.0, 40.0]}],
        },
        Result("detection"): {"detections": []},
        Result("keypoints", keypoints=(Keypoint("nose", 1.5, 2.5, 0.9),)): {
            "keypoints": [{"name": "nose", "x": 1.5, "y": 2.5, "score": 0.9}],
        },
        Result("anomaly", anomaly=Anomaly(float("inf"), 0.5, True), variant="int8", reused=True): {
            "variant": "int8", "reused": True,
            "anomaly": {"score": None, "threshold": 0.5, "is_anomalous": True},
        },
    }  # fmt: skip
    for result, form in forms.items():
        assert result.to_json() == form
        json.dumps(form, allow_nan=False)


def test_a_mask_is_written_without_its_pixels_and_large_values_as_shapes():
    mask = Mask(np.zeros((2, 3), np.uint8), Box(0, 0, 30, 20), (ClassShare(0, "sky", 1.0),))
    assert Result("segmentation", mask=mask).to_json() == {
        "mask": {"shape": [2, 3], "box": [0, 0, 30, 20], "classes": [{"class_id": 0, "label": "sky", "share": 1.0}]}
    }
    assert Result("raw", values=(np.array([1.0, np.nan], np.float32),)).to_json() == {"values": [[1.0, None]]}
    assert Result("raw", values=(np.zeros((50, 50), np.float32),)).to_json() == {"shapes": [[50, 50]]}


def test_label_and_score_are_those_of_the_best():
    assert (Result("detection", detections=(CAT,)).label, Result("detection", detections=(CAT,)).score) == ("cat", 0.75)
    assert (Result("detection").label, Result("detection").score) == ("", None)
    assert Result("classification", (ClassScore(7, "", 0.5),)).label == "7"
    assert Result("anomaly", anomaly=Anomaly(2.5, None, None)).score == 2.5


def test_a_mask_comes_back_to_the_picture_and_marks_what_was_cropped_off():
    mask = Mask(np.array([[1, 2], [3, 4]], np.uint8), Box(2, 0, 6, 4))
    assert mask.at_picture(4, 8).tolist() == [
        [NO_CLASS, NO_CLASS, 1, 1, 2, 2, NO_CLASS, NO_CLASS],
        [NO_CLASS, NO_CLASS, 1, 1, 2, 2, NO_CLASS, NO_CLASS],
        [NO_CLASS, NO_CLASS, 3, 3, 4, 4, NO_CLASS, NO_CLASS],
        [NO_CLASS, NO_CLASS, 3, 3, 4, 4, NO_CLASS, NO_CLASS],
    ]
