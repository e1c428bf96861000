"""Equalization: the float function stays, channels share the codes better, and what does not help is not kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.graph import Graph
from edgeloop.graph.parts import cut
from edgeloop_converters.calibration import Ranges, calibrate
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.passes.channel_noise import ChannelStatistics, choose_factors
from edgeloop_converters.passes.equalization import equalize, measure
from edgeloop_converters.passes.links import links, scale_channels
from edgeloop_converters.passes.packed import run_real
from edgeloop_converters.quantization import quantize_int8
from edgeloop_converters.schemes import SCHEMES
from edgeloop_converters.schemes.job import Job
from support.tiny_models import NONE, RELU, RELU6, TinyBuilder, tiny_cnn, tiny_residual

Samples = list[tuple[np.ndarray]]


def mobile_like(seed: int = 0, spread: float = 1.2, activation: int = RELU) -> Graph:
    """Two depthwise-separable blocks whose channels differ in size as folded batch normalizations leave them."""
    b = TinyBuilder(seed)
    x = b.conv(b.input("image", (1, 12, 12, 3)), 16, stride=2, activation=activation)
    for filters in (16, 24):
        x = b.conv(b.depthwise(x, activation=activation), filters, 1, activation=activation)
    graph = b.finish(b.softmax(b.dense(b.mean(x), 6)))
    random = np.random.default_rng(seed + 1)
    for link in links(graph):
        scale_channels(graph, link, np.exp(random.normal(0, spread, link.channels)).astype(np.float32))
    return graph


def images(count: int, seed: int = 0, size: int = 12) -> Samples:
    """Smooth pictures: pure noise averages out to one class."""
    random = np.random.default_rng(seed)
    coarse = random.random((count, 1, 3, 3, 3)).astype(np.float32)
    return [(np.kron(image, np.ones((1, size // 3, size // 3, 1), np.float32)),) for image in coarse]


def packed(model: bytes, scheme: str, ranges: Ranges) -> bytes:
    load = SCHEMES[scheme].load
    assert load is not None
    return load()(Job(model, ranges)).tflite


def agreement(model: bytes, other: bytes, samples: Samples) -> float:
    ours, theirs = (run_real(file, samples)[0].reshape(len(samples), -1).argmax(axis=1) for file in (model, other))
    return float((ours == theirs).mean())


def names(graph: Graph) -> list[tuple[str, str]]:
    return [(link.producer.name, link.consumer.name) for link in links(graph)]


def test_pairs_reach_through_relu_pooling_and_the_mean() -> None:
    assert names(mobile_like(activation=RELU)) == [
        ("CONV_2D", "DEPTHWISE_CONV_2D"),
        ("DEPTHWISE_CONV_2D", "CONV_2D"),
        ("CONV_2D", "DEPTHWISE_CONV_2D"),
        ("DEPTHWISE_CONV_2D", "CONV_2D"),
        ("CONV_2D", "FULLY_CONNECTED"),
    ]


def test_a_relu6_a_skip_connection_and_shared_weights_are_borders() -> None:
    b = TinyBuilder(0)
    x = b.conv(b.input("image", (1, 6, 6, 3)), 8, activation=RELU6)
    assert names(b.finish(b.conv(x, 4))) == []
    # the trunk is read twice and its sum has two producers; only the block's inside is free
    assert names(Graph.read(tiny_residual())) == [("CONV_2D", "CONV_2D")]
    b = TinyBuilder(0)
    first = b.dense(b.input("x", (1, 6)), 6, RELU)
    out = b.dense(first, 6, NONE)
    b.sub.ops[1].inputs[1] = b.sub.ops[0].inputs[1]
    assert names(b.finish(out)) == []


def test_flattened_channels_are_followed() -> None:
    b = TinyBuilder(0)
    x = b.conv(b.input("image", (1, 6, 6, 3)), 8)
    shape = b.constant("shape", np.array([1, 288], np.int32))
    graph = b.finish(b.dense(b.op("RESHAPE", [x, shape], (1, 288)), 4))
    (link,) = links(graph)
    samples = images(4, size=6)
    before = run_real(graph.write(), samples)[0]
    scale_channels(graph, link, np.geomspace(0.1, 10, 8).astype(np.float32))
    assert run_real(graph.write(), samples)[0] == pytest.approx(before, abs=1e-4)


@pytest.mark.parametrize("scheme", ["int8", "int8-per-tensor"])
def test_the_float_function_stays(scheme: str) -> None:
    model = mobile_like().write()
    samples = images(48)
    ranges = calibrate(model, samples)
    done = equalize(model, packed(model, scheme, ranges), ranges, samples)
    assert done.report.accepted
    assert done.float_model != model
    others = images(40, seed=5)
    assert np.abs(run_real(done.float_model, others)[0] - run_real(model, others)[0]).max() <= 1e-4


def test_per_tensor_error_falls_where_channels_differ() -> None:
    for seed in range(3):
        model = mobile_like(seed).write()
        samples = images(64, seed)
        ranges = calibrate(model, samples)
        done = equalize(model, packed(model, "int8-per-tensor", ranges), ranges, samples)
        assert done.report.after["varying_error"] < 0.1 * done.report.before["varying_error"]


def test_per_tensor_agreement_rises_on_a_trained_model(digits_tflite: Path) -> None:
    graph = Graph.read(to_float_tflite(digits_tflite).tflite)
    random = np.random.default_rng(0)
    found = links(graph)
    assert found
    for link in found:
        scale_channels(graph, link, np.exp(random.normal(0, 1.5, link.channels)).astype(np.float32))
    model = graph.write()
    split = load_split()
    samples, others = (
        [((image[None, ..., None] / 255).astype(np.float32),) for image in part]
        for part in (split.train_images[:100], split.held_out_images)
    )
    ranges = calibrate(model, samples)
    plain = packed(model, "int8-per-tensor", ranges)
    done = equalize(model, plain, ranges, samples)
    before, after = agreement(plain, model, others), agreement(done.packed, model, others)
    assert before < 0.95
    assert after > 0.98


def test_the_file_is_what_the_packer_makes_of_the_new_model() -> None:
    model = mobile_like().write()
    samples = images(48)
    ranges = calibrate(model, samples)
    done = equalize(model, packed(model, "int8-per-tensor", ranges), ranges, samples)
    again = Graph.read(packed(done.float_model, "int8-per-tensor", done.ranges))
    for ours, theirs in zip(Graph.read(done.packed).main.tensors, again.main.tensors, strict=True):
        assert (ours.name, ours.dtype, ours.shape) == (theirs.name, theirs.dtype, theirs.shape)
        if ours.quantization is not None and theirs.quantization is not None:
            assert ours.quantization.scale == pytest.approx(theirs.quantization.scale, rel=1e-4)
        if ours.data is not None and theirs.data is not None and ours.dtype in ("int8", "int32"):
            assert np.abs(ours.data.astype(np.int64) - theirs.data).max(initial=0) <= 1


def test_what_does_not_help_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model = mobile_like().write()
    samples = images(24)
    ranges = calibrate(model, samples)
    file = packed(model, "int8", ranges)
    monkeypatch.setattr("edgeloop_converters.passes.equalization.varying_errors", lambda *_: (1.0, 1.0))
    done = equalize(model, file, ranges, samples)
    assert (done.float_model, done.packed, done.ranges) == (model, file, ranges)
    assert not done.report.accepted


def test_a_model_without_pairs_is_left_alone() -> None:
    model = tiny_cnn()  # its depthwise layer has a ReLU6
    samples = [(np.random.default_rng(i).random((1, 8, 8, 3), np.float32),) for i in range(16)]
    ranges = calibrate(model, samples)
    done = equalize(model, packed(model, "int8", ranges), ranges, samples)
    assert done.float_model == model or done.report.accepted


@given(st.integers(0, 1000), st.booleans())
@settings(max_examples=15, deadline=None)
def test_factors_are_positive_and_bounded(seed: int, per_tensor: bool) -> None:
    graph = mobile_like(seed % 3, spread=2.0)
    found = links(graph)
    random = np.random.default_rng(seed)
    statistics = [
        ChannelStatistics(
            random.gamma(0.3, 1, (len(link.between), 2, link.channels)),
            random.gamma(0.3, 1, link.channels),
            np.ones(link.channels),
        )
        for link in found
    ]
    wide = frozenset(t.name for t in graph.main.tensors if t.is_constant) if per_tensor else frozenset()
    for factors in choose_factors(graph, found, statistics, wide):
        assert np.isfinite(factors).all()
        assert factors.min() > 0
        assert factors.max() / factors.min() <= 64.0**2 * 1.01


def test_statistics_are_those_of_the_float_model() -> None:
    graph = mobile_like()
    samples = images(16)
    found = links(graph)
    names_of = [graph.main.tensors[link.between[0]].name for link in found]
    for statistics, name in zip(measure(graph, found, samples), names_of, strict=True):
        values = run_real(cut(graph, [name]), samples)[0]
        flat = values.reshape(-1, values.shape[-1])
        assert statistics.tops[0].max(axis=0) == pytest.approx(np.abs(flat).max(axis=0), rel=1e-5)
        assert (statistics.spans > 0).all()


def test_dense_layers_with_one_scale_as_the_edge_tpu_takes_them() -> None:
    b = TinyBuilder(0)
    graph = b.finish(b.softmax(b.dense(b.dense(b.input("x", (1, 12)), 32, RELU), 5)))
    (link,) = links(graph)
    factors = np.exp(np.random.default_rng(0).normal(0, 1.5, link.channels)).astype(np.float32)
    scale_channels(graph, link, factors)
    model = graph.write()
    samples = [(np.random.default_rng(i).random((1, 12), np.float32),) for i in range(48)]
    ranges = calibrate(model, samples)
    file = quantize_int8(model, ranges, fully_connected_per_tensor=True).tflite
    assert not any(t.is_per_channel for t in Graph.read(file).main.tensors)
    done = equalize(model, file, ranges, samples)
    assert done.report.after["varying_error"] < 0.3 * done.report.before["varying_error"]
    assert not any(t.is_per_channel for t in Graph.read(done.packed).main.tensors)
