"""`edgeloop_agent.open`: one model in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeloop_agent
from edgeloop.errors import DataError, DelegateError, RefusedError, UsageError
from support.agents import frames, golden_of, make_bundle
from support.delegate_lib import RESHAPE, build_delegate, external


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "digits.bundle", golden=golden_of(frames(4)))


def test_a_frame_gives_label_timing_and_what_ran(bundle: Path) -> None:
    with edgeloop_agent.open(bundle) as model:
        result = model(frames(1)[0])
    assert result.label == result.top[0].label != ""
    assert result.score == result.top[0].score
    assert 0 < result.timing.invoke_ms < result.timing.total_ms
    assert result.ran_on == model.ran_on.ran == "xnnpack"
    assert model.failures == ()


def test_it_falls_back_to_the_next_delegate_and_says_why(bundle: Path) -> None:
    lying = external(build_delegate(), claim_op=RESHAPE, wrong=1)
    with edgeloop_agent.open(bundle, delegates=["external:/no/such.so", lying, "cpu"]) as model:
        assert model(frames(1)[0]).ran_on == "cpu"
    assert ["/no/such.so" in model.failures[0].reason, "golden" in model.failures[1].reason] == [True, True]


def test_without_a_delegate_that_works_it_is_one_error(bundle: Path) -> None:
    with pytest.raises(DelegateError, match=r"/no/such\.so"):
        edgeloop_agent.open(bundle, delegates=["external:/no/such.so"])


def test_a_wrong_frame_is_refused_and_the_model_lives_on(bundle: Path) -> None:
    with edgeloop_agent.open(bundle) as model:
        for wrong in (np.zeros((8, 8), np.float32), np.zeros((0, 0), np.uint8), np.zeros((2, 8, 8, 5), np.uint8)):
            with pytest.raises(DataError):
                model(wrong)
        assert model(frames(1)[0]).label


@pytest.mark.parametrize(("frame", "what"), [(None, "None .cv2.imread"), ("a.jpg", "a str"), ([[1, 2]], "a list")])
def test_a_frame_that_is_no_array_is_said(bundle: Path, frame: object, what: str) -> None:
    with edgeloop_agent.open(bundle, delegates="cpu") as model, pytest.raises(DataError, match=f"array, got {what}"):
        model(frame)


def test_a_bundle_for_another_runtime_is_wrong_use(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "other.bundle", runtime={"tflite-runtime": "2.14"})
    with pytest.raises(UsageError, match=r"needs the runtime tflite-runtime 2\.14, here is ai-edge-litert"):
        edgeloop_agent.open(bundle)


def test_an_unsigned_bundle_needs_to_be_allowed(tmp_path: Path) -> None:
    unsigned = make_bundle(tmp_path / "u.bundle", signed=False)
    with pytest.raises(RefusedError):
        edgeloop_agent.open(unsigned)
    edgeloop_agent.open(unsigned, allow_unsigned=True).close()
