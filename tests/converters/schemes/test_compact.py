"""Few different weights in int8 kernels: what is in the file, what it costs, what rounding with feedback gains."""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop.runtime import open_session
from edgeloop_converters.calibration import calibrate
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.passes.rounding import gptq
from edgeloop_converters.recipe_reading import parse_recipe
from edgeloop_converters.recipe_steps import plan_passes
from edgeloop_converters.schemes import SCHEMES, check_options
from edgeloop_converters.schemes.codebooks import fitted_scales, k_means, logarithmic, uniform
from edgeloop_converters.schemes.compact import eight_bit_layers
from edgeloop_converters.schemes.job import Job
from edgeloop_converters.schemes.verify import Made
from support.tiny_models import TinyBuilder, tiny_cnn, tiny_mlp

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def digit(image: np.ndarray) -> np.ndarray:
    return (image[None, ..., None] / 255).astype(np.float32)


def images() -> list[np.ndarray]:
    return list(np.random.default_rng(0).random((16, 1, 8, 8, 3)).astype(np.float32))


def digits() -> Iterator[tuple[np.ndarray, ...]]:
    return ((digit(image),) for image in load_split().train_images[:64])


@pytest.fixture(scope="module")
def job(digits_tflite: Path) -> Job:
    model = to_float_tflite(digits_tflite).tflite
    return Job(model, calibrate(model, list(digits())), digits, 64)


def made(name: str, job: Job, **options: str | int) -> Made:
    load = SCHEMES[name].load
    assert load is not None
    return load()(replace(job, options=options))


def weights(model: bytes) -> list[np.ndarray]:
    main = Graph.read(model).main
    return [np.asarray(main.tensors[op.inputs[1]].data) for op in main.ops if op.name in WEIGHTED]


@pytest.mark.parametrize(
    ("name", "options", "most"),
    [
        ("int8-compact", {}, 31),
        ("int8-compact", {"bits": 4}, 15),
        ("clustered", {}, 16),
        ("clustered", {"clusters": 8}, 8),
        ("clustered", {"codebook": "logarithmic"}, 15),
    ],
)
def test_large_layers_hold_few_different_weights(name: str, options: dict[str, str | int], most: int, job: Job) -> None:
    plain, done = made("int8", job), made(name, job, **options)
    total = sum(w.size for w in weights(done.tflite))
    large = [w for w in weights(done.tflite) if w.size >= 0.02 * total]
    assert large
    assert max(len(np.unique(w)) for w in large) <= most
    assert len(lzma.compress(done.tflite)) < 0.8 * len(lzma.compress(plain.tflite))


@pytest.mark.parametrize("name", ["int8-compact", "clustered"])
def test_the_kernels_are_those_of_int8(name: str, job: Job) -> None:
    """The same ops on the same types and shapes: nothing that could run slower."""
    ours, plain = (Graph.read(made(n, job).tflite).main for n in (name, "int8"))
    assert [(op.name, op.version) for op in ours.ops] == [(op.name, op.version) for op in plain.ops]
    assert [(t.name, t.dtype, t.shape) for t in ours.tensors] == [(t.name, t.dtype, t.shape) for t in plain.tensors]


def test_four_bits_with_rounding_and_biases_keep_the_answers(job: Job) -> None:
    def answers(model: bytes) -> np.ndarray:
        from edgeloop.affine import quantize

        with open_session(model) as session:
            info = session.inputs[0]
            images = load_split().held_out_images[:300]
            return np.array([session.run(quantize(digit(i), info.affine, info.dtype))[0].argmax() for i in images])

    assert (answers(made("int8-compact", job, bits=4).tflite) == answers(job.model)).mean() > 0.97


def test_depthwise_and_the_smallest_layers_keep_eight_bits() -> None:
    graph = Graph.read(made("int8", Job(tiny_cnn(filters=64), calibrate(tiny_cnn(filters=64), images()))).tflite)
    kinds = {op.inputs[1]: op.name for op in graph.main.ops if len(op.inputs) > 1}
    kept = {kinds[graph.main.index_of(name)] for name in eight_bit_layers(graph)}
    assert kept == {"DEPTHWISE_CONV_2D"}
    assert eight_bit_layers(Graph.read(tiny_mlp())) == frozenset()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([8, 16, 24, 32]), st.floats(1e-6, 1e3))
def test_codebooks_are_int8_codes_with_zero(seed: int, clusters: int, size: float) -> None:
    rows = np.random.default_rng(seed).standard_t(3, (4, 40)) * size
    for book in (k_means(rows, clusters, np.ones_like(rows)), logarithmic(clusters), uniform(5)):
        assert 0 in book.levels
        assert (np.diff(book.levels) > 0).all()
        assert book.largest <= 127
        assert len(book.levels) <= max(clusters, 31)
        values = np.linspace(-150, 150, 301)
        found = book.nearest(values)
        assert (np.abs(found - values) <= np.abs(book.levels[:, None] - values).min(axis=0) + 1e-9).all()


def test_k_means_survives_layers_of_zeros_and_of_one_value() -> None:
    for rows in (np.zeros((2, 5)), np.ones((2, 5))):
        book = k_means(rows, 16, np.ones_like(rows))
        scales = fitted_scales(rows, book, np.ones_like(rows))
        assert np.isfinite(scales).all()
        assert (scales > 0).all()
        codes = gptq(rows, np.zeros((5, 5)), scales, book.nearest)
        assert np.allclose(codes * scales[:, None], rows, atol=0.01)


def test_options_belong_to_their_scheme_and_travel_in_the_recipe() -> None:
    step = plan_passes("int8-compact", "aeq", "default", options={"bits": 4})[1]
    assert step.options["bits"] == 4
    text = 'source = "m"\n[[passes]]\nname = "calibrate"\n[[passes]]\nname = "quantize"\n'
    assert parse_recipe(text + 'scheme = "int8-compact"\nbits = 4').scheme_options == {"bits": 4}
    with pytest.raises(UsageError, match="bits cannot be 3"):
        check_options(SCHEMES["int8-compact"], {"bits": 3})
    with pytest.raises(UsageError, match="has no option 'bits'") as caught:
        parse_recipe(text + 'scheme = "int8"\nbits = 4')
    assert "int8-compact" in str(caught.value.hint)
    with pytest.raises(UsageError, match="must be a whole number"):
        parse_recipe(text + 'scheme = "int8-compact"\nbits = "4"')


def test_a_layer_too_wide_for_feedback_is_rounded_to_the_nearest() -> None:
    builder = TinyBuilder(0)
    x = builder.input("x", (1, 5000))
    model = builder.finish(builder.dense(x, 8)).write()
    rng = np.random.default_rng(0)
    xs = [rng.random((1, 5000)).astype(np.float32) for _ in range(8)]
    done = made("int8-compact", Job(model, calibrate(model, xs), lambda: ((x,) for x in xs), 8))
    codes = weights(done.tflite)[0]
    assert 8 < np.abs(codes).max() <= 15
