"""Decoding of outputs: quantized codes to scores, labels, ties."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from edgeloop.affine import Affine, quantize
from edgeloop.contract import OutputSpec
from edgeloop.errors import ConfigError
from edgeloop.postprocess import compile_output


@dataclass(frozen=True)
class FakeOutput:
    shape: tuple[int, ...]
    affine: Affine
    name: str = "scores"


SOFTMAX = FakeOutput((1, 4), Affine(1 / 256, -128))


def test_the_best_classes_come_first_with_label_and_score():
    decode = compile_output(OutputSpec("classification", ("a", "b", "c", "d")), [SOFTMAX])
    result = decode([np.array([[-128, 127, 0, -128]], np.int8)])
    assert [(c.class_id, c.label, c.score) for c in result.top] == [
        (1, "b", 255 / 256),
        (2, "c", 0.5),
        (0, "a", 0.0),
    ]
    assert result.label == "b"


def test_ties_go_to_the_first_class():
    decode = compile_output(OutputSpec("classification"), [SOFTMAX])
    result = decode([np.array([[5, 5, 5, 5]], np.int8)])
    assert [c.class_id for c in result.top] == [0, 1, 2]
    assert result.label == "0"


def test_raw_outputs_are_dequantized():
    result = compile_output(OutputSpec("raw"), [FakeOutput((1, 2), Affine(0.5, 10))])([np.array([[10, 12]], np.int8)])
    assert result.values[0].tolist() == [[0.0, 1.0]]


def test_labels_that_do_not_match_the_outputs_are_said():
    with pytest.raises(ConfigError, match="3 labels but the model has 4"):
        compile_output(OutputSpec("classification", ("a", "b", "c")), [SOFTMAX])


def test_quantizing_rounds_half_away_from_zero_and_saturates():
    codes = quantize([0.5, 1.5, -0.5, -1.5, 1000.0, -1000.0], Affine(1.0, 0), np.int8)
    assert codes.tolist() == [1, 2, -1, -2, 127, -128]
