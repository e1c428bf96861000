"""Quantization-aware training: what was trained is what the int8 file computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop_converters.passes import fine_tune, qat
from edgeloop_converters.passes.packed import int8_quantization, run_real
from edgeloop_converters.passes.train import Stage, train_int8
from edgeloop_converters.trainable import TrainingOptions
from support.learning import labels_of, pictures
from support.tiny_models import tiny_residual

pytestmark = pytest.mark.tensorflow

OPTIONS = TrainingOptions(epochs=4, batch=16, rate=5e-3)


@pytest.fixture(scope="module")
def float_model() -> Graph:
    samples, classes = pictures(300)
    options = TrainingOptions(epochs=12, batch=16, rate=1e-2)
    return fine_tune(Graph.read(tiny_residual()), samples=samples, labels=classes, options=options)[0]


@pytest.mark.parametrize("ranges", ["learnt", "moving"])
def test_the_int8_file_has_the_ranges_and_codes_that_were_trained(float_model: Graph, ranges: str) -> None:
    samples, classes = pictures(200, seed=1)
    done = train_int8(float_model, samples=samples, labels=classes, ranges=ranges, options=OPTIONS)
    packed = Graph.read(done.tflite)
    assert packed.numeric_kind() == "int8"
    for name, (low, high) in done.refinement.ranges.tensors.items():
        tensor = packed.tensor_by_name(name)
        if name in {t.name for t in packed.outputs} or not tensor.affine.is_quantized:
            continue
        wanted = int8_quantization(low, high)
        assert tensor.affine.scale == pytest.approx(float(wanted.scale[0]), rel=1e-6)
        assert tensor.affine.zero_point == int(wanted.zero_point[0])
    for name, codes in done.refinement.weights.items():
        assert np.array_equal(packed.tensor_by_name(name).data, codes.codes)
        step = codes.scales.max()
        assert np.abs(codes.real() - done.graph.tensor_by_name(name).data).max() <= 0.51 * step


def test_trained_accuracy_is_exported_accuracy(float_model: Graph) -> None:
    samples, classes = pictures(400, seed=1)
    held, held_classes = pictures(500, seed=2)
    done = train_int8(float_model, samples=samples, labels=classes, options=OPTIONS)
    simulated = done.histories[-1].validation["accuracy"]
    exported = np.mean(labels_of(done.tflite, held) == held_classes)
    assert exported == pytest.approx(simulated, abs=0.05)  # other samples
    float_answers = labels_of(done.graph.write(), held)
    assert np.mean(labels_of(done.tflite, held) == float_answers) > 0.97


def test_without_labels_the_model_that_came_in_teaches_and_the_result_is_an_int8_graph(float_model: Graph) -> None:
    samples, _ = pictures(200, seed=1)
    before = float_model.write()
    graph, report = qat(float_model, samples=samples, options=OPTIONS)
    assert float_model.write() == before and graph.numeric_kind() == "int8"
    held, _ = pictures(300, seed=2)
    assert np.mean(labels_of(graph.write(), held) == labels_of(before, held)) > 0.95
    assert "validation agreement" in report.after


def test_progressive_stages_end_in_few_bits_with_the_ends_in_eight(float_model: Graph) -> None:
    samples, classes = pictures(300, seed=1)
    stages = [Stage(1, share=0.5), Stage(1), Stage(3, bits=4)]
    done = train_int8(float_model, samples=samples, labels=classes, stages=stages, options=OPTIONS)
    largest = [int(np.abs(codes.codes).max()) for codes in done.refinement.weights.values()]
    assert largest == [127, 7, 7, 127]
    assert len(done.histories) == 3 and "3 epochs in 4 bits" in done.report.note()
    held, held_classes = pictures(300, seed=2)
    assert np.mean(labels_of(done.tflite, held) == held_classes) > 0.9


def test_it_goes_on_after_its_stages_checkpoints(float_model: Graph, tmp_path: Path) -> None:
    samples, classes = pictures(100, seed=1)
    options = TrainingOptions(epochs=1, batch=16, rate=5e-3, checkpoints=tmp_path)
    stages = [Stage(1), Stage(1, bits=5)]
    first, again = (
        train_int8(float_model, samples=samples, labels=classes, stages=stages, options=options) for _ in range(2)
    )
    assert first.tflite == again.tflite
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stage-0", "stage-1"]


def test_what_cannot_be_is_said_in_one_line(float_model: Graph) -> None:
    samples, classes = pictures(50)
    with pytest.raises(UsageError, match="ranges 'guessed' are not known"):
        qat(float_model, samples=samples, labels=classes, ranges="guessed")
    with pytest.raises(UsageError, match="computes in float32"):
        qat(float_model, samples=samples, labels=classes, options=TrainingOptions(precision="bfloat16"))
    with pytest.raises(UsageError, match="bits 2 to 8"):
        Stage(1, bits=9)


def test_the_simulation_gives_the_file_s_answers_sample_by_sample(float_model: Graph) -> None:
    """Scores of the fake-quantized function and of the int8 file differ by a few steps at most."""
    import tensorflow as tf

    from edgeloop.graph.parts import cut
    from edgeloop_converters.passes.packed import PackedModel
    from edgeloop_converters.passes.train.quantizer import FakeQuantizer
    from edgeloop_converters.trainable import TrainableGraph

    samples, classes = pictures(64, seed=1)
    done = train_int8(float_model, samples=samples, labels=classes, options=TrainingOptions(epochs=1, batch=16))
    packed = PackedModel(done.graph.write(), done.tflite, done.refinement.ranges)
    scores = next(op for op in done.graph.main.ops if op.name == "SOFTMAX").inputs[0]
    name = done.graph.main.tensors[scores].name
    hooks = FakeQuantizer(tf, packed).hooks(False)
    simulated = TrainableGraph(done.graph).values([samples], [name], hooks=hooks)[0].numpy()
    real = run_real(cut(Graph.read(done.tflite), [name]), [(s[None],) for s in samples])[0].reshape(simulated.shape)
    step = Graph.read(done.tflite).tensor_by_name(name).affine.scale
    assert np.abs(simulated - real).max() <= 2.01 * step
    assert np.abs(simulated - real).mean() <= 0.1 * step
