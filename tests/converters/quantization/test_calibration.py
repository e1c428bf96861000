"""Ranges of real tensors over real samples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.contract import Contract, InputSpec
from edgeloop.errors import DataError, UsageError
from edgeloop.graph import Graph
from edgeloop.runtime import open_session
from edgeloop_converters.calibration import GROUP_SIZE, calibrate, model_inputs
from edgeloop_converters.data import open_data
from edgeloop_converters.frontends import to_float_tflite
from support.tiny_models import TinyBuilder, tiny_cnn


@pytest.fixture(scope="module")
def model(digits_tflite: Path) -> bytes:
    return to_float_tflite(digits_tflite).tflite


def samples(count: int, shape: tuple[int, ...] = (1, 8, 8, 1), seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).random((count, *shape), np.float32))


def test_min_max_is_the_true_range_of_every_float_activation(model: bytes) -> None:
    xs = samples(20)
    ranges = calibrate(model, xs, method="min-max")
    with open_session(model, delegate="cpu", keep_tensors=True) as session:
        activations = [t for t in session.tensors() if t.name in ranges.tensors]
        seen: dict[str, list[float]] = {t.name: [] for t in activations}
        for x in xs:
            session.set_input(0, x)
            session.invoke()
            for t in activations:
                seen[t.name] += [float(session.tensor(t.index).min()), float(session.tensor(t.index).max())]
    computed = {t.name for t in Graph.read(model).main.tensors if not t.is_constant and t.dtype == "float32"}
    assert set(ranges.tensors) == computed
    for name, (low, high) in ranges.tensors.items():
        assert low == pytest.approx(min(seen[name]), rel=1e-4, abs=1e-5)
        assert high == pytest.approx(max(seen[name]), rel=1e-4, abs=1e-5)


def test_grouped_ranges_lie_inside_the_true_ones_and_borders_stay_true(model: bytes) -> None:
    xs = samples(64)
    true, grouped = calibrate(model, xs, method="min-max"), calibrate(model, xs)
    graph = Graph.read(model)
    borders = {t.name for t in [*graph.inputs, *graph.outputs]}
    narrower = 0
    for name, (low, high) in grouped.tensors.items():
        assert true.tensors[name][0] <= low <= high <= true.tensors[name][1]
        narrower += (low, high) != true.tensors[name]
        assert name not in borders or (low, high) == true.tensors[name]
    assert narrower > 3
    assert (grouped.samples, grouped.method) == (64, "grouped")


def test_few_samples_make_one_group(model: bytes) -> None:
    xs = samples(GROUP_SIZE)
    assert calibrate(model, xs).tensors == calibrate(model, xs, method="min-max").tensors


def test_samples_sorted_by_size_are_dealt_evenly(model: bytes) -> None:
    xs = [x * (i + 1) / 64 for i, x in enumerate(samples(64))]
    streamed: Iterator[np.ndarray] = iter(xs)
    dealt = calibrate(model, streamed, total=64)
    shuffled = calibrate(model, [xs[i] for i in np.random.default_rng(1).permutation(64)])
    name = max(dealt.tensors, key=lambda n: dealt.tensors[n][1])
    assert dealt.tensors[name][1] == pytest.approx(shuffled.tensors[name][1], rel=0.15)


@given(st.integers(1, 50))
def test_any_number_of_samples_streams(count: int) -> None:
    tiny = tiny_cnn()
    shape = Graph.read(tiny).inputs[0].shape
    xs = samples(count, shape)
    ranges = calibrate(tiny, iter(xs))
    low, high = ranges.tensors[Graph.read(tiny).inputs[0].name]
    assert (low, high) == (min(float(x.min()) for x in xs), max(float(x.max()) for x in xs))
    assert ranges.samples == count


def test_nan_in_the_data_names_the_sample(model: bytes) -> None:
    xs = samples(3)
    xs[2][0, 1, 1, 0] = np.nan
    with pytest.raises(DataError, match=r"sample 2: input '.*' holds NaN or infinity"):
        calibrate(model, xs)


def test_an_activation_that_overflows_names_its_tensor() -> None:
    builder = TinyBuilder(0)
    x = builder.input("x", (1, 4))
    y = builder.op("EXP", [x], (1, 4))
    builder.sub.outputs.append(y)
    with pytest.raises(DataError, match="sample 1: tensor 'exp_0' becomes NaN or infinity") as caught:
        calibrate(builder.graph.write(), [np.ones((1, 4), np.float32), np.full((1, 4), 1000, np.float32)])
    assert "mean and std" in str(caught.value.hint)


def test_no_samples_and_unknown_methods_are_refused(model: bytes) -> None:
    with pytest.raises(DataError, match="no samples"):
        calibrate(model, [])
    with pytest.raises(UsageError, match="'median' is not known"):
        calibrate(model, samples(1), method="median")


def test_inputs_come_through_the_contract_and_name_what_does_not_fit(model: bytes, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.full((3, 8, 8), 51, np.uint8))
    data = open_data(tmp_path / "d.npz")
    contract = Contract((InputSpec("image", "image", (8, 8), "gray", std=(255.0,)),))
    values = [x.copy() for (x,) in model_inputs(contract, model, data, [0, 2])]
    assert [v.shape for v in values] == [(1, 8, 8, 1)] * 2
    assert values[0].max() == pytest.approx(0.2)
    tensors = Contract((InputSpec("image", "tensor", shape=(8, 8, 1)),))
    np.savez(tmp_path / "e.npz", x=np.zeros((3, 7, 8), np.float32))
    with pytest.raises(DataError, match=r"sample 1 of .*e\.npz: .*takes \[8, 8, 1\], got \[7, 8\]"):
        list(model_inputs(tensors, model, open_data(tmp_path / "e.npz"), [1]))
