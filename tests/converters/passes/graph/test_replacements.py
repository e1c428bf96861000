"""Ops that are replaced when asked for: the same function, or another one that the outputs bear; and PReLU's forms."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from edgeloop.errors import ConfigError, UsageError
from edgeloop.graph import Graph, make_options
from edgeloop.progress import SilentProgress
from edgeloop.runtime import open_session
from edgeloop_converters.passes import optimize_graph
from edgeloop_converters.passes.graph.replacing import REPLACEMENTS
from edgeloop_converters.recipe_options import REPLACEMENTS as RECIPE_NAMES
from edgeloop_converters.recipe_reading import parse_recipe
from edgeloop_converters.recipe_steps import PassStep
from support.tiny_models import RELU, TinyBuilder

SHAPE = (1, 6, 6, 4)
SLOPES = np.array([0.1, 0.25, 0.4, -0.2], np.float32)


def silu(b: TinyBuilder, x: int) -> int:
    return b.op("MUL", [x, b.op("LOGISTIC", [x], b.shape(x))], b.shape(x), make_options("MulOptions"))


def prelu(b: TinyBuilder, x: int, slopes: np.ndarray = SLOPES) -> int:
    return b.op("PRELU", [x, b.constant("slopes", slopes.reshape(1, 1, 4))], b.shape(x))


def leaky(b: TinyBuilder, x: int) -> int:
    return b.op("LEAKY_RELU", [x], b.shape(x), make_options("LeakyReluOptions", alpha=0.3))


def parts(b: TinyBuilder, x: int, slopes: np.ndarray, *, keras: bool = False) -> int:
    """A PReLU as exporters write it: relu(x) - a relu(-x), or relu(x) + (-a) relu(-x)."""
    above = b.op("RELU", [x], b.shape(x))
    if keras:
        below = b.op("RELU", [b.op("NEG", [x], b.shape(x))], b.shape(x))
    else:
        minus = b.constant("minus", np.array(-1, np.float32))
        options = make_options("MulOptions", fusedActivationFunction=RELU)
        below = b.op("MUL", [x, minus], b.shape(x), options)
    a = b.constant("a", -slopes if keras else slopes)
    bent = b.op("MUL", [below, a], b.shape(x), make_options("MulOptions"))
    if keras:
        return b.op("ADD", [bent, above], b.shape(x), make_options("AddOptions"))
    return b.op("SUB", [above, bent], b.shape(x), make_options("SubOptions"))


def model(build, *more) -> Graph:
    b = TinyBuilder(1)
    x = b.conv(b.input("x", SHAPE), 4, 3, activation=0)
    return Graph.read(b.finish(b.dense(b.mean(build(b, x, *more)), 3)).write())


def kinds(graph: Graph) -> dict[str, int]:
    inner = Counter(op.name for op in graph.main.ops)
    return {k: v for k, v in inner.items() if k not in ("CONV_2D", "MEAN", "FULLY_CONNECTED")}


def answers(graph: Graph) -> np.ndarray:
    random = np.random.default_rng(3)
    with open_session(graph.write(), delegate="cpu") as session:
        return np.stack([session.run(random.standard_normal(SHAPE).astype(np.float32))[0] for _ in range(3)])


@pytest.mark.parametrize(
    ("name", "build", "expected"),
    [
        ("leaky-relu:prelu", leaky, {"PRELU": 1}),
        ("prelu:relu", prelu, {"RELU": 1, "MUL": 2, "SUB": 1}),
        ("hard-swish:relu6", lambda b, x: b.op("HARD_SWISH", [x], b.shape(x)), {"ADD": 1, "MUL": 2}),
    ],
)
def test_what_is_the_same_function_is_replaced_when_asked_for(name, build, expected) -> None:
    graph = model(build)
    assert kinds(optimize_graph(graph)[0]) == kinds(graph)
    replaced, report = optimize_graph(graph, replace=[name])
    assert kinds(replaced) == expected
    assert f"1 {name} replaced" in report.detail
    assert np.allclose(answers(replaced), answers(graph), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "build", "expected"),
    [("silu:hard-swish", silu, {"HARD_SWISH": 1}), ("prelu:leaky-relu", prelu, {"LEAKY_RELU": 1})],
)
def test_another_function_stays_only_where_the_outputs_bear_it(name, build, expected) -> None:
    graph, progress = model(build), SilentProgress()
    refused, report = optimize_graph(graph, replace=[name], max_error=1e-6, progress=progress)
    assert kinds(refused) == kinds(graph) and "output_error" not in report.after
    assert f"{name}: not kept, the outputs' error is" in progress.notes[0]
    taken, report = optimize_graph(graph, replace=[name], max_error=1.0)
    assert kinds(taken) == expected
    assert 0 < report.after["output_error"] <= 1.0
    assert not np.allclose(answers(taken), answers(graph), atol=1e-5)


@pytest.mark.parametrize("name", ["leaky-relu:prelu", "prelu:relu", "hard-swish:relu6"])
def test_names_are_unique_where_two_ops_were_replaced(name) -> None:
    builds = {"l": leaky, "p": prelu, "h": lambda b, x: b.op("HARD_SWISH", [x], b.shape(x))}
    build = builds[name[0]]
    graph = model(lambda b, x: build(b, b.conv(build(b, x), 4, 1, activation=0)))
    replaced, _ = optimize_graph(graph, replace=[name])
    names = [tensor.name for tensor in replaced.main.tensors]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("keras", [False, True])
@pytest.mark.parametrize(("slopes", "expected"), [(SLOPES, "PRELU"), (np.array([0.25], np.float32), "LEAKY_RELU")])
def test_a_prelu_written_in_parts_is_one_op_again(slopes, expected, keras) -> None:
    graph = model(lambda b, x: parts(b, x, slopes, keras=keras))
    better, report = optimize_graph(graph)
    assert kinds(better) == {expected: 1}
    assert report.after["peak_memory_bytes"] <= report.before["peak_memory_bytes"]
    assert np.allclose(answers(better), answers(graph), atol=1e-6)


def test_a_depthwise_layer_on_one_channel_is_a_convolution() -> None:
    b = TinyBuilder(2)
    x = b.input("x", (1, 7, 7, 1))
    weights = b.constant("w", b.random.standard_normal((1, 3, 3, 6)).astype(np.float32))
    options = make_options(
        "DepthwiseConv2DOptions", padding=0, strideH=2, strideW=2, depthMultiplier=6, dilationHFactor=1,
        dilationWFactor=1, fusedActivationFunction=RELU,
    )  # fmt: skip
    graph = b.finish(
        b.op("DEPTHWISE_CONV_2D", [x, weights, b.constant("b", np.ones(6, np.float32))], (1, 4, 4, 6), options)
    )
    better, _ = optimize_graph(graph)
    assert [op.name for op in better.main.ops] == ["CONV_2D"]
    picture = b.random.standard_normal((1, 7, 7, 1)).astype(np.float32)
    results = []
    for one in (graph, better):
        with open_session(one.write(), delegate="cpu") as session:
            results.append(session.run(picture)[0])
    assert np.allclose(*results, atol=1e-5)


def test_what_only_looks_like_a_prelu_stays() -> None:
    def twice(b: TinyBuilder, x: int) -> int:
        other = b.conv(x, 4, 1, activation=0)
        minus = b.constant("minus", np.array(-1, np.float32))
        options = make_options("MulOptions", fusedActivationFunction=RELU)
        bent = b.op("MUL", [b.op("MUL", [other, minus], b.shape(x), options), b.constant("a", SLOPES)], b.shape(x),
                    make_options("MulOptions"))  # fmt: skip
        return b.op("SUB", [b.op("RELU", [x], b.shape(x)), bent], b.shape(x), make_options("SubOptions"))

    graph = model(twice)
    better, _ = optimize_graph(graph)
    assert "PRELU" not in kinds(better) and np.allclose(answers(better), answers(graph), atol=1e-5)


def test_a_prelu_with_one_slope_is_a_leaky_relu_and_with_none_a_relu() -> None:
    assert kinds(optimize_graph(model(prelu, np.full(4, 0.3, np.float32)))[0]) == {"LEAKY_RELU": 1}
    assert kinds(optimize_graph(model(prelu, np.zeros(4, np.float32)))[0]) == {}


def test_what_is_not_there_is_said_and_what_is_not_known_refused() -> None:
    progress = SilentProgress()
    optimize_graph(model(leaky), replace=["silu:hard-swish"], progress=progress)
    assert progress.notes == ["optimize graph: silu:hard-swish: nothing of this kind is in the model"]
    with pytest.raises(UsageError, match="replacement 'relu:gelu' is not known") as refused:
        optimize_graph(model(leaky), replace=["relu:gelu"])
    assert all(name in str(refused.value.hint) for name in REPLACEMENTS)


def test_a_recipe_asks_for_replacements_by_name() -> None:
    assert tuple(REPLACEMENTS) == RECIPE_NAMES
    text = 'source = "m.tflite"\npasses = [{name = "optimize", replace = ["silu:hard-swish"], max_error = 0.1}]'
    recipe = parse_recipe(text)
    assert recipe.float_passes[0].options == {"replace": ["silu:hard-swish"], "max_error": 0.1}
    assert parse_recipe(recipe.to_toml()) == recipe
    with pytest.raises(ConfigError, match="'optimize': replace must be a list of some of silu:hard-swish, prelu"):
        PassStep("optimize", {"replace": ["relu:gelu"]})
