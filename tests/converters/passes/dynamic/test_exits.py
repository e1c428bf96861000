"""Exit heads: where a model can stop, what they answer, and that the answer behind them stays what it was."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop.graph.parts import cut, exit_heads, halves, output_names, up_to
from edgeloop.runtime import open_session
from edgeloop_converters.passes import add_exits, optimize_graph
from edgeloop_converters.passes.dynamic import Place, find_places
from edgeloop_converters.passes.dynamic.places import choose_places
from edgeloop_converters.passes.figures import macs
from edgeloop_converters.passes.logistic import cross_entropy, fit_soft, softmax
from edgeloop_converters.passes.packed import run_real
from support.learning import blobs, pictures
from support.tiny_models import NONE, RELU, TinyBuilder


def residual(seed: int = 1, *, softmax_at_end: bool = True) -> Graph:
    """Two residual blocks of 8 and 16 channels behind a convolution: "image" [1, 8, 8, 3] -> [1, 4]."""
    b = TinyBuilder(seed)
    x = b.conv(b.input("image", (1, 8, 8, 3)), 8)
    x = b.add(x, b.conv(b.conv(x, 8), 8, activation=NONE), RELU)
    y = b.conv(b.conv(x, 16, stride=2), 16, activation=NONE)
    x = b.add(b.conv(x, 16, kernel=1, stride=2, activation=NONE), y, RELU)
    x = b.conv(x, 16)
    scores = b.dense(b.mean(x), 4)
    return b.finish(b.softmax(scores) if softmax_at_end else scores)


@lru_cache(maxsize=1)
def samples() -> list[tuple[np.ndarray]]:
    return [(picture[None],) for picture in pictures(160)[0]]


def test_places_lie_behind_blocks_and_never_inside_of_them() -> None:
    graph = residual()
    found = find_places(graph)
    assert [p.share for p in found] == sorted({p.share for p in found})
    inside = {"conv_2d_1", "conv_2d_2", "conv_2d_4", "conv_2d_5", "conv_2d_6"}
    names = {p.tensor for p in found}
    assert not names & inside and {"conv_2d_0", "add_3", "add_7"} <= names
    for place in found:
        assert place.share == pytest.approx(macs(Graph.read(cut(graph, [place.tensor]))) / macs(graph))
        with_head = graph.copy()
        with_head.main.outputs.append(with_head.main.index_of(place.tensor))
        assert halves(with_head, place.tensor).second


def test_the_nearest_place_is_taken_and_two_exits_never_fall_on_one() -> None:
    places = [Place("a", 0.1), Place("b", 0.4), Place("c", 0.8)]
    assert choose_places(places, (0.7, 0.3)) == (places[1], places[2])
    with pytest.raises(UsageError, match="fall on 1 places"):
        choose_places(places, (0.39, 0.41))
    with pytest.raises(UsageError, match="no place for an exit"):
        choose_places([], (0.4,))


@pytest.mark.parametrize("with_softmax", [True, False])
def test_heads_come_behind_the_models_own_outputs_and_leave_them_as_they_were(with_softmax: bool) -> None:
    graph = residual(softmax_at_end=with_softmax)
    before = graph.content_hash()
    exits, report = add_exits(graph, samples=samples(), at=(0.45, 0.8))
    assert graph.content_hash() == before
    assert exit_heads(exits) == output_names(exits)[1:] == ("exit1", "exit2")
    assert [list(t.shape) for t in exits.outputs] == [[1, 4]] * 3
    whole = run_real(graph.write(), samples()[:20])[0]
    answer, *heads = run_real(exits.write(), samples()[:20])
    np.testing.assert_array_equal(answer, whole)
    if with_softmax:
        for head in heads:
            np.testing.assert_allclose(head.sum(axis=-1), 1, atol=1e-5)
    assert "exit1 answers" in report.detail and 0 < report.after["exit1 agreement"] <= 1
    assert report.before["macs"] < report.after["macs"] < 1.1 * report.before["macs"]


def test_a_head_agrees_with_the_whole_model_far_above_its_commonest_answer() -> None:
    graph = residual(3)
    exits, report = add_exits(graph, samples=samples(), at=(0.8,))
    held = [(picture[None],) for picture in pictures(200, seed=9)[0]]
    answer, head = (a.reshape(200, -1).argmax(axis=1) for a in run_real(exits.write(), held))
    commonest = np.bincount(answer).max() / len(answer)
    assert (head == answer).mean() > max(0.8, commonest), (report.detail, commonest)
    again, _ = add_exits(graph, samples=samples(), at=(0.8,))
    assert again.content_hash() == exits.content_hash()


def test_the_part_up_to_a_head_is_a_model_of_its_own_with_the_same_answers() -> None:
    exits, _ = add_exits(residual(), samples=samples())
    part = up_to(exits, "exit1")
    assert output_names(part) == ("exit1",) and macs(part) < 0.6 * macs(exits)
    assert list(part.signatures[0].inputs) == list(exits.signatures[0].inputs)
    whole = run_real(exits.write(), samples()[:8])
    np.testing.assert_array_equal(run_real(part.write(), samples()[:8])[0], whole[1])


def test_later_passes_keep_the_heads() -> None:
    exits, _ = add_exits(residual(), samples=samples())
    tidy, _ = optimize_graph(exits, samples=samples()[:4])
    assert exit_heads(tidy) == ("exit1",)
    with open_session(tidy.write()) as session:
        assert len(session.outputs) == 2


@pytest.mark.parametrize("shape", [(1, 10), (1, 10, 1, 1)])
def test_vectors_and_sequences_get_heads_as_maps_do(shape: tuple[int, ...]) -> None:
    b = TinyBuilder(2)
    x = b.input("x", shape)
    for _ in range(3):
        x = b.dense(x, 10, RELU) if len(shape) == 2 else b.conv(x, 10)
    graph = b.finish(b.softmax(b.dense(x if len(shape) == 2 else b.mean(x), 3)))
    samples = [(row.reshape(shape),) for row in blobs(96)[0]]
    exits, _ = add_exits(graph, samples=samples, at=(0.6,))
    assert ("MEAN" in {op.name for op in up_to(exits, "exit1").main.ops}) == (len(shape) == 4)
    answer, head = run_real(exits.write(), samples[:8])
    np.testing.assert_array_equal(answer, run_real(graph.write(), samples[:8])[0])
    assert head.shape == answer.shape


def test_what_cannot_be_is_one_line() -> None:
    with pytest.raises(UsageError, match="fitted to 3 samples"):
        add_exits(residual(), samples=samples()[:3])
    exits, _ = add_exits(residual(), samples=samples())
    with pytest.raises(UsageError, match="exits already"):
        add_exits(exits, samples=samples())
    b = TinyBuilder(0)
    flags = b.op("LOGISTIC", [b.dense(b.mean(b.conv(b.input("image", (1, 8, 8, 3)), 4)), 4)], (1, 4))
    with pytest.raises(UsageError, match="by LOGISTIC"):
        add_exits(b.finish(flags), samples=samples())


def test_the_fit_is_the_optimum_and_knows_no_unit() -> None:
    random = np.random.default_rng(0)
    features = random.normal(2.0, 1.0, (300, 5)) * np.array([1e-3, 1, 1, 1e3, 0])
    truth = random.normal(0, 1, (3, 4)) / np.array([1e-3, 1, 1, 1e3])
    targets = softmax(features[:, :4] @ truth.T)
    learnt, held = np.arange(240), np.arange(240, 300)
    weights, bias = fit_soft(features, targets, learnt, held)
    found = cross_entropy(features[held] @ weights.T + bias, targets[held])
    entropy = float(-(targets[held] * np.log(targets[held])).sum(axis=1).mean())
    assert found == pytest.approx(entropy, abs=5e-3) and np.isfinite(weights).all() and not weights[:, 4].any()
