"""Outputs in another order are noticed by what they answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeloop.graph import Graph
from edgeloop_converters.assess import evaluate
from edgeloop_converters.compare import compare
from edgeloop_converters.evaluate.pairing import other_places
from support.tiny_models import TinyBuilder


def outputs(seed: int = 0, count: int = 2) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(16, 4)) for _ in range(count)]


def test_outputs_that_changed_places_are_found_and_those_that_did_not_are_left() -> None:
    a, b, c = outputs(count=3)
    noise = 0.05 * outputs(1)[0]
    assert other_places([a, b, c], [b + noise, a + noise, c]) == {0: 1, 1: 0}
    assert other_places([a, b, c], [a + noise, b, c]) == {}


def test_a_spoilt_output_is_not_one_in_another_place() -> None:
    a, b = outputs()
    assert other_places([a, b], [np.zeros_like(a), b]) == {}
    assert other_places([a, b], outputs(seed=7)) == {}
    assert other_places([a, b], [b, np.zeros_like(a)]) == {}, "one alone cannot have changed places"
    assert other_places([a, a], [a, a]) == {}, "two that answer the same are in their places"


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A model with two outputs of one shape, the same with them in the other order, and data."""
    b = TinyBuilder(0)
    x = b.input("x", (1, 6))
    graph = b.finish(b.softmax(b.dense(x, 4)), b.softmax(b.dense(x, 4)))
    plain, swapped, data = (tmp_path / name for name in ("plain.tflite", "swapped.tflite", "x.npz"))
    plain.write_bytes(graph.write())
    other = Graph.read(graph.write())
    other.main.outputs.reverse()
    swapped.write_bytes(other.write())
    np.savez(data, x=np.random.default_rng(0).normal(size=(100, 6)).astype(np.float32))
    return plain, swapped, data


def test_compare_and_evaluate_say_that_outputs_are_in_another_order(both: tuple[Path, Path, Path]) -> None:
    plain, swapped, data = both
    notes = compare(plain, swapped, data=data, latency=False, cache=False).notes
    assert any("b seems to have them in another order than a" in note for note in notes)
    assert not any("another order" in note for note in compare(plain, plain, data=data, latency=False).notes)
    warnings = evaluate(swapped, data, reference=plain, cache=False).warnings
    assert "seems to have them in another order" in warnings[0]
