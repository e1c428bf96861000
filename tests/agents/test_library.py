"""`edgeloop_agent.open`: one model in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeloop_agent
from edgeloop.bundle.trust import PublicKey
from edgeloop.contract import Contract, InputSpec, OutputSpec
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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"threads": "2"}, "threads must be a whole number from 1, got '2'"),
        ({"threads": True}, "got True"),
        ({"threads": 2.5}, r"got 2\.5"),
        ({"delegates": [1]}, r"delegates must be a list of texts, got \[1\]"),
        ({"delegates": None}, "got None"),
        ({"gallery": 3}, "gallery must be a path, got 3"),
        ({"trust": 5}, "trust must be a path, got None"),
    ],
)
def test_arguments_of_another_type_are_wrong_use(bundle: Path, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        edgeloop_agent.open(bundle, **arguments)


@pytest.mark.parametrize("bundle", [None, 5, b"ic.bundle", ["ic.bundle"]])
def test_a_bundle_that_is_no_path_is_wrong_use(bundle: Any) -> None:
    with pytest.raises(UsageError, match="bundle must be a path, got"):
        edgeloop_agent.open(bundle)


def test_one_path_is_as_good_as_a_list_of_one(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "other.pub").write_text(PublicKey(bytes(range(32))).to_text())
    with pytest.raises(RefusedError, match="not trusted here"):
        edgeloop_agent.open(bundle, trust=str(tmp_path / "other.pub"))


@pytest.mark.parametrize("kind", ["<U1", object, complex, "M8[D]", [("a", int)]])
def test_an_array_of_something_else_than_numbers_is_refused(tmp_path: Path, kind: Any) -> None:
    contract = Contract((InputSpec(kind="tensor", shape=(8, 8, 1)),), OutputSpec("raw"))
    with edgeloop_agent.open(make_bundle(tmp_path / "a.bundle", contract=contract)) as model:
        with pytest.raises(DataError, match="takes numbers, got an array of"):
            model(np.zeros((8, 8), kind))
        assert model(np.zeros((8, 8), ">f4")).values


def test_calls_with_something_else_than_frames_or_sources_are_wrong_use(bundle: Path) -> None:
    with edgeloop_agent.open(bundle) as model:
        for wrong in (None, 5, "a.png"):
            with pytest.raises(UsageError, match="batch takes a list of frames"):
                model.batch(wrong)
        with pytest.raises(UsageError, match="a source is a text"):
            model.stream(None)
        with pytest.raises(UsageError, match="count must be a whole number"):
            model.stream("synthetic:", count="3")
        with pytest.raises(DataError, match="an empty dictionary"):
            model({})


def test_a_bundle_for_another_runtime_is_wrong_use(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "other.bundle", runtime={"tflite-runtime": "2.14"})
    with pytest.raises(UsageError, match=r"needs the runtime tflite-runtime 2\.14, here is ai-edge-litert"):
        edgeloop_agent.open(bundle)


def test_an_unsigned_bundle_needs_to_be_allowed(tmp_path: Path) -> None:
    unsigned = make_bundle(tmp_path / "u.bundle", signed=False)
    with pytest.raises(RefusedError):
        edgeloop_agent.open(unsigned)
    edgeloop_agent.open(unsigned, allow_unsigned=True).close()
