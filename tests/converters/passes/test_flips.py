"""The last word on a refinement: does it decide as the float model does?"""

from __future__ import annotations

import numpy as np

from edgeloop_converters.calibration import Ranges
from edgeloop_converters.passes.codes import Refinement
from edgeloop_converters.passes.flips import count_flips, judge_by_flips
from edgeloop_converters.passes.refine import Refined
from support.tiny_models import tiny_mlp

MODEL, OTHER = tiny_mlp(seed=0), tiny_mlp(seed=1)
INPUTS = [(np.random.default_rng(i).normal(size=(1, 10)).astype(np.float32),) for i in range(40)]


def refined(tflite: bytes) -> Refined:
    return Refined(tflite, Refinement(Ranges({}, samples=40)))


def test_counts_other_decisions_than_the_float_models():
    same, other = count_flips(MODEL, [MODEL, OTHER], INPUTS)
    assert same == 0
    assert other > 5


def test_a_refinement_with_more_flips_is_dropped_and_said():
    kept, reports = judge_by_flips(MODEL, MODEL, refined(OTHER), INPUTS)
    assert kept == MODEL
    assert "not kept" in reports[-1].note()


def test_a_refinement_with_no_more_flips_is_kept():
    kept, reports = judge_by_flips(MODEL, OTHER, refined(MODEL), INPUTS)
    assert kept == MODEL
    assert reports[-1].accepted
