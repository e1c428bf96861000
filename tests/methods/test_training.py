"""Training: soft labels, fake quantization, the cosine schedule, penalties, the generalization gap."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeloop_converters.passes.train.losses import label_loss, soft_loss
from edgeloop_converters.passes.train.tasks import CLASSES, FLAGS, VALUES
from edgeloop_converters.trainable.history import History
from edgeloop_converters.trainable.options import TrainingOptions, rate_at
from edgeloop_converters.trainable.scales import channel_scales

Doubles = npt.NDArray[np.float64]


def softmax(scores: Doubles) -> Doubles:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


@pytest.fixture(scope="module")
def tf() -> Any:
    from edgeloop_converters.trainable.imports import import_tensorflow

    return import_tensorflow()


@pytest.fixture(scope="module")
def scores() -> tuple[Doubles, Doubles]:
    """Of a student and its teacher, [samples, classes]."""
    random = np.random.default_rng(0)
    return random.normal(0, 3, (8, 5)), random.normal(0, 3, (8, 5))


@pytest.mark.tensorflow
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_labels_are_the_teachers_probabilities_at_a_temperature(
    tf: Any, scores: tuple[Doubles, Doubles], temperature: float
) -> None:
    """T^2 * sum p log(p / q) with p = softmax(teacher / T), q = softmax(student / T)."""
    student, teacher = scores
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    wanted = temperature**2 * (p * np.log(p / q)).sum(axis=1).mean()
    assert float(soft_loss(tf, CLASSES, student, teacher, temperature)) == pytest.approx(wanted, rel=1e-6)
    assert float(soft_loss(tf, CLASSES, teacher, teacher, temperature)) == pytest.approx(0, abs=1e-9)


@pytest.mark.tensorflow
def test_at_a_high_temperature_soft_labels_match_scores_and_their_gradient_does_not_fade(
    tf: Any, scores: tuple[Doubles, Doubles]
) -> None:
    """Hinton et al. 2015, section 2.1: T^2 times the gradient tends to (student - teacher) / classes, means removed."""
    student, teacher = (values - values.mean(axis=1, keepdims=True) for values in scores)
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        loss = soft_loss(tf, CLASSES, variable, teacher, 1e3)
    wanted = (student - teacher) / student.shape[1] / len(student)
    assert np.abs(tape.gradient(loss, variable) - wanted).max() < 1e-3


@pytest.mark.tensorflow
def test_labels_that_are_not_known_are_left_out(tf: Any, scores: tuple[Doubles, Doubles]) -> None:
    student = scores[0].astype(np.float32)
    labels = np.arange(8) % 5
    known = np.where(np.arange(8) < 3, labels, -1)
    whole, part = label_loss(tf, CLASSES, student[:3], labels[:3]), label_loss(tf, CLASSES, student, known)
    assert float(whole) == pytest.approx(float(part), rel=1e-6)
    assert float(whole) == pytest.approx(
        -np.log(softmax(student[:3].astype(float))[np.arange(3), labels[:3]]).mean(), 1e-5
    )
    values = np.where(np.arange(8)[:, None] < 3, 0.5, np.nan).astype(np.float32).repeat(5, axis=1)
    assert float(label_loss(tf, VALUES, student, values)) == pytest.approx(
        np.square(student[:3] - 0.5).mean(), rel=1e-5
    )
    assert np.isfinite(float(label_loss(tf, FLAGS, student, np.where(np.isnan(values), values, 1.0))))


@pytest.mark.tensorflow
def test_fake_quantization_rounds_as_int8_does_and_lets_gradients_pass_inside_the_range(tf: Any) -> None:
    """x -> s * (round(x / s + z) - z), s = (max - min) / 255; gradient 1 inside, 0 outside."""
    from edgeloop.affine import dequantize, quantize
    from edgeloop.graph import Graph
    from edgeloop_converters.calibration import calibrate
    from edgeloop_converters.passes.packed import PackedModel
    from edgeloop_converters.passes.train.quantizer import FakeQuantizer
    from edgeloop_converters.quantization import quantize_int8
    from support.tiny_models import tiny_residual

    model = tiny_residual()
    samples = list(np.random.default_rng(0).random((32, 1, 8, 8, 3)).astype(np.float32))
    measured = calibrate(model, samples)
    packed = PackedModel(model, quantize_int8(model, measured).tflite, measured)
    quantizer = FakeQuantizer(tf, packed)
    hooks = quantizer.hooks(True)
    for group, (low, high) in zip(packed.groups, quantizer.ranges(), strict=True):
        tensor = packed.graph.tensor_by_name(group.name)
        x = tf.constant(np.random.default_rng(1).uniform(1.3 * low - 0.1, 1.3 * high, 4000).astype(np.float32))
        with tf.GradientTape() as tape:
            tape.watch(x)
            rounded = hooks.computed(group.name, x)
        wanted = dequantize(quantize(x.numpy(), tensor.affine, np.dtype(np.int8)), tensor.affine)
        apart = np.abs(rounded.numpy() - wanted)
        assert np.mean(apart > 1e-5) < 0.01 and apart.max() < 1.01 * tensor.affine.scale  # ties only
        inside = (x.numpy() > low + tensor.affine.scale) & (x.numpy() < high - tensor.affine.scale)
        outside = (x.numpy() < low - tensor.affine.scale) | (x.numpy() > high + tensor.affine.scale)
        passed = tape.gradient(rounded, x).numpy()
        assert (passed[inside] == 1).all() and (passed[outside] == 0).all()
        assert np.abs(rounded.numpy() - x.numpy())[inside].max() <= 0.5001 * tensor.affine.scale
    for name in quantizer.weights:
        values = Graph.read(model).tensor_by_name(name).data
        assert values is not None
        codes = quantizer.codes(name, np.asarray(values, np.float32))
        assert np.abs(hooks.weight(name, tf.constant(values)).numpy() - codes.real()).max() < 1e-6
        assert np.abs(codes.codes).max() == 127


def test_the_cosine_schedule_falls_from_the_rate_to_its_end() -> None:
    """eta = end + (rate - end) / 2 * (1 + cos(pi * t / T))."""
    options = TrainingOptions(rate=0.1, final=0.01, warmup_steps=10)
    rates = [rate_at(options, step, 110, 10) for step in range(110)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 100)
    assert rates[10] == pytest.approx(0.1) and rates[60] == pytest.approx((0.1 + 0.001) / 2)
    assert rates[-1] == pytest.approx(0.001, abs=1e-4) and (np.diff(rates[10:]) < 0).all()


@pytest.mark.tensorflow
def test_penalties_are_the_gradients_of_l2_and_l1_of_weights_and_not_of_biases(tf: Any) -> None:
    from edgeloop_converters.trainable.optimizers import regularized

    weights, bias = tf.Variable([[1.0, -2.0]]), tf.Variable([3.0])
    none = [tf.zeros_like(weights), tf.zeros_like(bias)]
    with tf.GradientTape() as tape:
        penalty = 0.3 * tf.reduce_sum(weights**2) + 0.2 * tf.reduce_sum(tf.abs(weights))
    got = regularized(tf, none, [weights, bias], TrainingOptions(l2=0.3, l1=0.2))
    assert np.allclose(got[0], tape.gradient(penalty, weights)) and np.allclose(got[1], 0)


def test_the_generalization_gap_is_above_zero_where_the_model_overfits() -> None:
    validation = {"loss": 0.5, "accuracy/a": 0.8, "rms_error/b": 2.0}
    history = History((), 0, validation=validation, training={"loss": 0.2, "accuracy/a": 0.95, "rms_error/b": 1.5})
    assert history.gaps == pytest.approx({"loss": 0.3, "accuracy/a": 0.15, "rms_error/b": 0.5})


def test_a_folded_batch_normalization_is_taken_out_of_the_step_by_exact_powers_of_two() -> None:
    random = np.random.default_rng(0)
    begun = random.normal(0, np.sqrt(2 / 27), (4, 3, 3, 3)).astype(np.float32)
    folded = begun * np.array([1 / 300, 1.0, 7.0, 0.02], np.float32).reshape(4, 1, 1, 1)
    scales = channel_scales("CONV_2D", folded)
    sizes = np.sqrt(np.square(folded / scales).mean(axis=(1, 2, 3)) * 27 / 2)
    assert (sizes[1:3] > 0.6).all() and (sizes[1:3] < 1.6).all()  # the tiny ones are bounded by the whole tensor's
    assert np.array_equal(folded / scales * scales, folded) and np.array_equal(
        np.log2(scales) % 1, np.zeros_like(scales)
    )
