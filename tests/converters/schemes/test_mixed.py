"""Bits per layer by measured error."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.graph import Graph
from edgeloop_converters.calibration import calibrate
from edgeloop_converters.schemes import SCHEMES
from edgeloop_converters.schemes.job import Job
from edgeloop_converters.schemes.mixed import BITS, Cost, allocate
from support.tiny_models import tiny_residual


def test_the_layer_whose_error_matters_keeps_its_bits() -> None:
    costs = {
        "robust": Cost(1000, {6: 0.0, 5: 0.1, 4: 0.2}),
        "fragile": Cost(1000, {6: 5.0, 5: 20.0, 4: 80.0}),
        "large": Cost(100_000, {6: 0.1, 5: 0.4, 4: 3.0}),
    }
    assert allocate(costs, 1.0) == {"robust": 4, "fragile": 8, "large": 5}
    assert allocate(costs, 0.0) == {"robust": 6, "fragile": 8, "large": 8}
    assert allocate({}, 1.0) == {}


errors = st.lists(st.floats(0, 10), min_size=len(BITS), max_size=len(BITS))


@given(st.lists(st.tuples(st.integers(1, 10**6), errors), max_size=12), st.floats(0, 50))
def test_the_budget_holds_for_any_costs(layers: list[tuple[int, list[float]]], budget: float) -> None:
    costs = {str(i): Cost(n, dict(zip(BITS, e, strict=True))) for i, (n, e) in enumerate(layers)}
    bits = allocate(costs, budget)
    assert set(bits) == set(costs)
    assert sum(costs[name].error.get(b, 0.0) for name, b in bits.items()) <= budget + 1e-6


def test_layers_get_different_grids_and_the_kernels_stay_int8() -> None:
    model = tiny_residual()
    shape = Graph.read(model).inputs[0].shape
    xs = list(np.random.default_rng(0).random((40, *shape)).astype(np.float32))
    load = SCHEMES["mixed"].load
    assert load is not None
    done = load()(Job(model, calibrate(model, xs), lambda: ((x,) for x in xs), len(xs), options={"budget": 8}))
    graph = Graph.read(done.tflite)
    assert graph.numeric_kind() == "int8"
    assert any("bits by measured error" in note for note in done.notes)
    largest = [int(np.abs(t.data).max()) for t in graph.main.tensors if t.data is not None and t.dtype == "int8"]
    assert min(largest) <= 31
