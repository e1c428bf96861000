"""The gate: what is reused, what never, and what audits do to it."""

from __future__ import annotations

import numpy as np
import pytest

from edgeloop.postprocess import Box, ClassScore, Detection, Result
from edgeloop.postprocess.confidence import confidence
from edgeloop_agent.activation.gate import Gate
from edgeloop_agent.activation.judging import differs
from edgeloop_agent.activation.settings import GateSettings
from support import static_camera

RANDOM = np.random.default_rng(0)


def answer(class_id: int) -> Result:
    return Result("classification", (ClassScore(class_id, "", 0.9),))


def play(gate: Gate, pictures, *, fps: float = 30.0, label=lambda _i: 0, loosened: float = 1.0) -> list[bool]:
    """Whether each picture was reused; a model that says `label(i)` answers the others."""
    reused = []
    for i, picture in enumerate(pictures):
        now_ns = int(i / fps * 1e9)
        known = gate.reuse(picture, now_ns, loosened)
        if known is None:
            gate.inferred(answer(label(i)), now_ns)
        reused.append(known is not None)
    return reused


@pytest.mark.slow
def test_a_fixed_camera_is_answered_from_memory_until_something_moves():
    gate = Gate(GateSettings(audit_every=10**9, max_age_s=1e9))
    reused = np.array(play(gate, static_camera.frames(400)))
    inside = np.array([20 < i % 200 < 50 for i in range(400)])
    still = np.array([not static_camera.has_object(i) for i in range(400)])
    assert reused[inside & (np.arange(400) < 200)].mean() < 0.3
    assert reused[still].mean() > 0.95


@pytest.mark.parametrize("noise", [0.0, 3.0, 10.0])
def test_the_threshold_follows_the_noise(noise):
    gate = Gate(GateSettings(audit_every=10**9))
    play(gate, static_camera.frames(120, noise=noise)[60:])
    reused = play(gate, static_camera.frames(120, noise=noise, seed=1)[60:])
    assert np.mean(reused) > 0.9
    assert gate.threshold == pytest.approx(max(2.0, 6.0 * gate.noise)) and gate.noise <= 0.5 * noise + 0.01


def test_light_that_changes_everywhere_alike_is_no_difference_up_to_a_limit():
    gate = Gate(GateSettings())
    dim = np.full((60, 80, 3), 90, np.uint8)
    dim[20:40, 20:40] = 160
    assert play(gate, [dim, dim + np.uint8(20)]) == [False, True]
    assert play(gate, [dim + np.uint8(60)]) == [False]


def test_a_small_object_is_seen():
    picture = static_camera.frames(61, noise=2.0)[60]
    changed = picture.copy()
    changed[60:72, 70:82] = 255 - changed[60:72, 70:82]
    assert play(Gate(GateSettings()), [picture, changed]) == [False, False]


def test_several_scenes_are_remembered_and_the_oldest_goes():
    scenes = [RANDOM.integers(0, 256, (32, 32)).astype(np.uint8) for _ in range(4)]
    gate = Gate(GateSettings(remembered=3))
    assert play(gate, [*scenes[:3], *scenes[:3]]) == [False] * 3 + [True] * 3
    assert play(gate, [scenes[3], scenes[0]]) == [False, False]


def test_a_result_is_not_reused_for_longer_than_its_age():
    gate = Gate(GateSettings(max_age_s=1.0, audit_every=10**9))
    reused = play(gate, [np.zeros((8, 8), np.uint8)] * 31, fps=10.0)
    assert [i for i, r in enumerate(reused) if not r] == [0, 11, 22]


def test_every_nth_is_audited_and_differences_are_counted_and_make_it_careful():
    gate = Gate(GateSettings(audit_every=10))
    same = [np.zeros((8, 8), np.uint8)] * 200
    reused = play(gate, same)
    assert reused.count(False) == 1 + 19 == 1 + gate.audits and gate.differences == 0
    before = gate.threshold
    play(gate, same[:100], label=lambda i: i + 1)
    assert gate.differences == 10 and gate.threshold < 0.3 * before
    assert gate.hits + gate.misses == 300


def test_the_threshold_settles_where_the_share_of_differences_is_what_is_borne():
    gate = Gate(GateSettings(audit_every=1, max_difference=0.1))
    play(gate, [np.zeros((8, 8), np.uint8)] * 100, label=lambda i: i // 10)
    assert (gate.differences, gate.audits) == (9, 99)
    assert 1.9 < gate.threshold < 3.0  # up and down by one step


def test_arrays_that_are_no_pictures_are_compared_by_their_values():
    gate = Gate(GateSettings())
    window = RANDOM.standard_normal((49, 10)).astype(np.float32)
    assert play(gate, [window, window * 1.001, -window]) == [False, True, False]
    with pytest.raises(ValueError, match="finite"):
        gate.reuse(window * np.nan, 0)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (8, 8), (5, 300), (480, 640, 3), (7, 9, 1), (32, 32, 4)])
def test_any_size_of_picture_is_taken(shape):
    picture = RANDOM.integers(0, 256, shape).astype(np.uint8)
    assert play(Gate(GateSettings()), [picture, picture]) == [False, True]


def test_a_change_of_size_is_a_change():
    gate = Gate(GateSettings())
    assert play(gate, [np.zeros((48, 64), np.uint8), np.zeros((64, 48), np.uint8)]) == [False, False]


def test_confidence_is_the_score_of_probabilities_and_the_margin_of_logits():
    def scores(*values: float) -> Result:
        return Result("classification", tuple(ClassScore(i, "", v) for i, v in enumerate(values)))

    assert confidence(scores(0.7, 0.2, 0.1)) == 0.7
    assert confidence(scores(3.0, 3.0, -1.0)) == 0.5
    assert confidence(scores(9.0, -9.0)) == pytest.approx(1.0)
    found = [Detection(0, "a", score, Box(0, 0, 1, 1)) for score in (0.4, 0.7)]
    assert confidence(Result("detection", detections=tuple(found))) == 0.7
    assert confidence(Result("detection")) == 0.0
    assert confidence(Result("detection"), of_nothing=None) is None
    assert confidence(Result("raw", values=(np.zeros(3, np.float32),))) is None


def test_results_differ_where_somebody_would_be_told_something_else():
    values = RANDOM.standard_normal(100).astype(np.float32)
    assert differs(answer(1), answer(2)) and not differs(answer(1), answer(1))
    assert not differs(Result("raw", values=(values,)), Result("raw", values=(values * 1.01,)))
    assert differs(Result("raw", values=(values,)), Result("raw", values=(values + 1,)))
    assert differs(Result("raw", values=(values,)), Result("raw", values=(values[:50],)))
