"""Two layers fitted together: the gradient is right, padding is seen, and only what helps is kept."""

from __future__ import annotations

import numpy as np
import pytest

from edgeloop.graph import Graph
from edgeloop_converters.passes.pruning.consumers import matrix_of
from edgeloop_converters.passes.pruning.pairs import _Problem, find_pair, nearest_goal, refine
from edgeloop_converters.passes.pruning.seen import with_ones
from edgeloop_converters.passes.pruning.units import BOUNDS
from support.tiny_models import NONE, RELU, TinyBuilder

RECTIFIED = BOUNDS[RELU]


def pair_graph(stride: int = 1) -> Graph:
    b = TinyBuilder(0)
    x = b.conv(b.input("image", (1, 6, 6, 2)), 3)
    return b.finish(b.conv(x, 4, stride=stride, activation=NONE))


@pytest.mark.parametrize("stride", [1, 2])
def test_patches_give_what_both_layers_compute_borders_included(stride: int) -> None:
    graph = pair_graph(stride)
    pair = find_pair(graph, graph.main.ops[1])
    assert pair is not None and pair.bounds == RECTIFIED
    image = np.random.default_rng(0).standard_normal((6, 6, 2)).astype(np.float32)
    every = np.arange(np.prod(pair.windows[1].output))
    patches, inside = pair.patches(image, every)
    first, second = (matrix_of(graph, op) for op in graph.main.ops)
    hidden = np.maximum(with_ones(patches.reshape(len(every) * 9, -1)) @ first, 0) * inside.reshape(-1, 1)
    got = with_ones(hidden.reshape(len(every), -1)) @ second
    from edgeloop.runtime import open_session

    with open_session(graph.write(), delegate="cpu") as session:
        wanted = session.run(image[None])[0].reshape(len(every), -1)
    assert np.allclose(got, wanted, atol=1e-4)


def problem(outer: tuple[float, float]) -> _Problem:
    random = np.random.default_rng(1)
    patches = random.standard_normal((40, 3, 5)).astype(np.float32)
    matrices = random.standard_normal((6, 4)), random.standard_normal((13, 2))
    wanted = random.standard_normal((40, 2)).astype(np.float32) * 3
    return _Problem(patches, np.ones((40, 3), np.float32), matrices, RECTIFIED, wanted, np.zeros((40, 2)), outer)


@pytest.mark.parametrize("outer", [BOUNDS[NONE], RECTIFIED])
def test_the_gradient_is_that_of_the_error(outer: tuple[float, float]) -> None:
    found = problem(outer)
    random = np.random.default_rng(2)
    x = random.standard_normal(24 + 26) * 0.1
    for _ in range(5):
        way = random.standard_normal(x.size)
        slope = (found.value(x + 1e-3 * way)[0] - found.value(x - 1e-3 * way)[0]) / 2e-3
        assert slope == pytest.approx(float(found.value(x)[1] @ way), rel=0.05, abs=0.02)


def test_beyond_a_border_the_border_is_enough() -> None:
    got = np.array([[-2.0, 1.0, 3.0, 0.5]], np.float32)
    wanted = np.array([[-1.0, -1.0, 2.0, -3.0]], np.float32)
    goal = nearest_goal(got, wanted, np.zeros((1, 4)), np.full((1, 4), np.inf))
    assert goal.tolist() == [[-2.0, 0.0, 2.0, 0.0]]


def test_what_a_narrower_first_layer_can_say_is_found() -> None:
    """Two hidden units in place of three, of which one is a mixture: least squares on the second layer cannot know."""
    random = np.random.default_rng(3)
    patches = np.abs(random.standard_normal((600, 1, 4))).astype(np.float32)
    first = np.abs(random.standard_normal((5, 3)))
    second = random.standard_normal((4, 2))
    hidden = np.maximum(with_ones(patches[:, 0]) @ first, 0)
    wanted = (with_ones(hidden.astype(np.float32)) @ second).astype(np.float32)
    narrow = np.linalg.lstsq(with_ones(hidden[:, :2].astype(np.float32)), wanted, rcond=None)[0].astype(np.float64)
    inside, offset = np.ones((600, 1), np.float32), np.zeros((1, 1), np.float32)
    better = refine(patches, inside, (first[:, :2], narrow), RECTIFIED, wanted, offset, BOUNDS[NONE])
    assert better is not None
    error = lambda a, b: float(  # noqa: E731
        np.square(with_ones(np.maximum(with_ones(patches[:, 0]) @ a, 0)) @ b - wanted).mean()
    )
    assert error(*better) < 0.1 * error(first[:, :2], narrow)
