"""Dependency groups: what is removed together, and that the narrowed file computes what masking would."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.errors import UsageError
from edgeloop.graph import Graph, Op, make_options
from edgeloop.runtime import open_session
from edgeloop_converters.passes.pruning.channels import find_channels
from edgeloop_converters.passes.pruning.slicing import kept_classes, slice_channels
from support.tiny_models import NONE, RELU, TinyBuilder, tiny_cnn, tiny_residual


def run(model: bytes, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    with open_session(model, delegate="cpu") as session:
        return session.run(*(random.random(t.shape).astype(np.float32) for t in session.inputs))[0]


def masked(graph: Graph, keep: dict[str, Sequence[int]]) -> Graph:
    """The same function at full width: columns of what goes are zero in every layer that reads it."""
    channels, fresh = find_channels(graph), graph.copy()
    gone = ~kept_classes(channels, keep)
    layers = ("CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
    readers = {op.inputs[1] for op in graph.main.ops if op.name in layers}
    for follower in channels.followers:
        tensor = fresh.main.tensors[follower.tensor]
        if follower.tensor in readers and follower.axis == len(tensor.shape) - 1:
            tensor.data = np.where(gone[follower.classes], np.float32(0), tensor.data)
    return fresh


def many_ways(seed: int = 0) -> Graph:
    """Concat, depthwise with activation, pad, pool, scale and shift per channel, a gate, a flattened dense layer."""
    b = TinyBuilder(seed)
    x = b.input("image", (1, 8, 8, 3))
    left, right = b.conv(x, 6), b.conv(x, 4)
    joined = b.op("CONCATENATION", [left, right], (1, 8, 8, 10), make_options("ConcatenationOptions", axis=3))
    y = b.depthwise(joined)
    pads = b.constant("pads", np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    y = b.op("PAD", [y, pads], (1, 10, 10, 10), make_options("PadOptions"))
    pool = make_options("Pool2DOptions", padding=1, strideH=2, strideW=2, filterHeight=2, filterWidth=2)
    y = b.op("MAX_POOL_2D", [y], (1, 5, 5, 10), pool)
    scale = b.constant("scale", b.random.random((1, 1, 1, 10)).astype(np.float32) + np.float32(0.5))
    y = b.op("MUL", [y, scale], (1, 5, 5, 10), make_options("MulOptions"))
    trunk = b.conv(y, 8, activation=RELU)
    gate = b.dense(b.dense(b.mean(trunk), 5, activation=RELU), 8)
    shape = b.constant("gate_shape", np.array([1, 1, 1, 8], np.int32))
    gate = b.op("RESHAPE", [gate, shape], (1, 1, 1, 8), make_options("ReshapeOptions", newShape=[1, 1, 1, 8]))
    gate = b.op("LOGISTIC", [gate], (1, 1, 1, 8))
    trunk = b.op("MUL", [trunk, gate], (1, 5, 5, 8), make_options("MulOptions"))
    trunk = b.add(trunk, b.conv(b.conv(trunk, 7), 8, activation=NONE))
    flat_shape = b.constant("flat_shape", np.array([-1, 200], np.int32))
    flat = b.op("RESHAPE", [trunk, flat_shape], (1, 200), make_options("ReshapeOptions", newShape=[-1, 200]))
    return b.finish(b.softmax(b.dense(flat, 4)))


def awkward(seed: int = 0) -> Graph:
    """Weights that two layers share, a grouped layer, a split, a part of the channels cut out, transposed rows and a
    transposed convolution, concatenated with what stays; two outputs on one trunk, one by a flattened dense layer."""
    b = TinyBuilder(seed)
    image = b.input("image", (1, 8, 8, 3))
    trunk = b.conv(image, 8)
    left = b.conv(trunk, 6)
    right = b.op("CONV_2D", [b.conv(trunk, 8), *b.sub.ops[-2].inputs[1:]], (1, 8, 8, 6), b.sub.ops[-2].options)
    order = b.constant("order", np.array([0, 2, 1, 3], np.int32))
    turned = b.op("TRANSPOSE", [left, order], (1, 8, 8, 6))
    halves = [b.tensor(f"half{i}", (1, 8, 8, 3)) for i in range(2)]
    b.sub.ops.append(Op("SPLIT", [b.constant("axis", np.array(3, np.int32)), right], halves,
                        make_options("SplitOptions", numSplits=2)))  # fmt: skip
    begin, size = (b.constant(n, np.array(v, np.int32)) for n, v in (("at", [0, 0, 0, 1]), ("size", [1, 8, 8, 5])))
    part = b.op("SLICE", [b.conv(turned, 6), begin, size], (1, 8, 8, 5), make_options("SliceOptions"))
    grouped = b.weights("groups", (8, 3, 3, 4)), b.constant("none", np.zeros(8, np.float32))
    pairs = b.op("CONV_2D", [b.conv(trunk, 8), *grouped], (1, 8, 8, 8), b.sub.ops[0].options)
    wide = b.constant("wide", np.array([1, 8, 8, 5], np.int32))
    up = b.op("TRANSPOSE_CONV", [wide, b.weights("up", (5, 3, 3, 3)), halves[0]], (1, 8, 8, 5),
              make_options("TransposeConvOptions", padding=0, strideH=1, strideW=1))  # fmt: skip
    parts = [turned, halves[1], part, pairs, up, image]
    joined = b.op("CONCATENATION", parts, (1, 8, 8, 30), make_options("ConcatenationOptions", axis=-1))
    last = b.conv(joined, 7)
    shape = b.constant("flat", np.array([1, 448], np.int32))
    flat = b.op("RESHAPE", [last, shape], (1, 448), make_options("ReshapeOptions", newShape=[1, 448]))
    return b.finish(b.softmax(b.dense(b.dense(flat, 9, activation=RELU), 4)), b.dense(b.mean(last), 5))


def test_what_an_addition_joins_is_one_group() -> None:
    channels = find_channels(Graph.read(tiny_residual()))
    assert [(g.width, len(g.producers)) for g in channels.groups] == [(8, 2), (8, 1)]


def test_depthwise_channels_go_with_those_they_filter() -> None:
    graph = Graph.read(tiny_cnn())
    channels = find_channels(graph)
    [group] = channels.groups
    narrow = slice_channels(graph, channels, kept_classes(channels, {group.name: [0, 3, 5]}))
    assert [t.shape for t in narrow.main.tensors if t.is_constant and len(t.shape) == 4] == [(3, 3, 3, 3), (1, 3, 3, 3)]


def test_groups_run_through_every_way_that_channels_take() -> None:
    widths = [(g.width, len(g.producers), len(g.consumers)) for g in find_channels(many_ways()).groups]
    assert widths == [(6, 1, 1), (4, 1, 1), (8, 3, 3), (5, 1, 1), (7, 1, 1)]


@pytest.mark.parametrize(
    "model", [tiny_cnn(), tiny_residual(), many_ways().write(), awkward().write()],
    ids=["cnn", "residual", "many", "awkward"],
)  # fmt: skip
@given(data=st.data())
@settings(max_examples=12)
def test_a_narrowed_model_computes_what_the_masked_one_does(model: bytes, data: st.DataObject) -> None:
    graph = Graph.read(model)
    channels = find_channels(graph)
    keep = {g.name: data.draw(st.lists(st.integers(0, g.width - 1), min_size=1, unique=True)) for g in channels.groups}
    narrow = slice_channels(graph, channels, kept_classes(channels, keep))
    assert np.abs(run(narrow.write()) - run(masked(graph, keep).write())).max() < 1e-5


def test_channels_that_an_unknown_op_reads_stay() -> None:
    b = TinyBuilder(0)
    y = b.conv(b.input("image", (1, 4, 4, 3)), 6)
    y = b.op("SOFTMAX", [y], (1, 4, 4, 6), make_options("SoftmaxOptions", beta=1.0))
    graph = b.finish(b.dense(b.mean(y), 3))
    assert find_channels(graph).groups == ()


def test_the_graph_that_came_in_is_not_changed() -> None:
    graph = Graph.read(tiny_residual())
    before = graph.content_hash()
    channels = find_channels(graph)
    slice_channels(graph, channels, kept_classes(channels, {g.name: [0] for g in channels.groups}))
    assert graph.content_hash() == before


def test_a_group_must_keep_a_channel_of_its_own() -> None:
    channels = find_channels(Graph.read(tiny_cnn()))
    for positions in ([], [8], [-1]):
        with pytest.raises(UsageError, match="one must stay"):
            kept_classes(channels, {channels.groups[0].name: positions})
    with pytest.raises(UsageError, match="no group of channels 'x'"):
        kept_classes(channels, {"x": [0]})
