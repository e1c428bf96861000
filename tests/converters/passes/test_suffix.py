"""The part behind a range answers as the whole model would, whatever the range."""

from __future__ import annotations

import numpy as np
import pytest

from edgeloop.graph import Graph
from edgeloop.graph.parts import cut, extract, needed_ops
from edgeloop_converters.calibration import calibrate
from edgeloop_converters.passes.objective import OutputError
from edgeloop_converters.passes.packed import PackedModel
from edgeloop_converters.passes.refine import affordable_samples
from edgeloop_converters.quantization import quantize_int8
from support.tiny_models import TinyBuilder, tiny_cnn


def residual() -> bytes:
    b = TinyBuilder(3)
    x = b.input("x", (1, 8, 8, 3))
    first = b.conv(x, 8)
    second = b.conv(first, 8)
    return b.finish(b.softmax(b.dense(b.mean(b.add(first, second)), 4))).write()


@pytest.fixture(scope="module", params=["chain", "residual"])
def trial(request: pytest.FixtureRequest) -> tuple[bytes, PackedModel, list[tuple[np.ndarray]]]:
    model = tiny_cnn() if request.param == "chain" else residual()
    shape = Graph.read(model).inputs[0].shape
    samples = [(np.random.default_rng(i).random(shape, np.float32),) for i in range(12)]
    ranges = calibrate(model, samples)
    return model, PackedModel(model, quantize_int8(model, ranges).tflite, ranges), samples


def test_every_group_s_part_gives_the_whole_model_s_error(
    trial: tuple[bytes, PackedModel, list[tuple[np.ndarray]]],
) -> None:
    model, packed, samples = trial
    error = OutputError(model, samples)
    assert packed.groups
    for group in packed.groups:
        low, high = packed.range_of(group)
        with_range = error.with_range(packed, group)
        for factor in (1.0, 0.5, 1.3, 0.8):
            value = (low * factor, high * factor)
            whole = packed.copy()
            whole.set_range(group, value)
            assert with_range(value) == pytest.approx(error.per_sample(whole), rel=1e-6)
        assert packed.range_of(group) == (low, high)


def test_a_part_has_only_what_it_needs() -> None:
    graph = Graph.read(tiny_cnn())
    last = graph.main.ops[-1]
    part, places = extract(graph, needed_ops([last], last.outputs), last.inputs[:1], last.outputs)
    assert len(part.main.ops) == 1
    assert len(part.main.tensors) == len(places) < len(graph.main.tensors)
    assert Graph.read(part.write()).main.ops[0].name == last.name
    first = graph.main.tensors[graph.main.ops[0].outputs[0]].name
    assert [op.name for op in Graph.read(cut(graph, [first])).main.ops] == [graph.main.ops[0].name]


def test_how_many_samples_judge_follows_the_work_not_the_clock(
    trial: tuple[bytes, PackedModel, list[tuple[np.ndarray]]],
) -> None:
    _, packed, _ = trial
    assert affordable_samples(packed, 128, 1e15) == 128
    assert affordable_samples(packed, 128, 1.0) == 16
    assert affordable_samples(packed, 10, 1.0) == 10
