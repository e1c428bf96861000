"""Ranges from distributions of values."""

from __future__ import annotations

import numpy as np
import pytest

from edgeloop.errors import UsageError
from edgeloop_converters.calibration import METHODS, calibrate
from edgeloop_converters.passes.histograms import CHOICES, Histogram, entropy_range, mse_range, percentile_range
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_options import CALIBRATION_METHODS
from edgeloop_converters.recipe_steps import plan_passes
from support.tiny_models import tiny_cnn


def histogram(*parts: np.ndarray) -> Histogram:
    made = Histogram()
    for part in parts:
        made.add(part)
    return made


def squared_error(values: np.ndarray, ends: tuple[float, float]) -> float:
    step = (ends[1] - ends[0]) / 255
    shown = np.clip(np.rint((values - ends[0]) / step), 0, 255) * step + ends[0]
    return float(np.square(values - shown).mean())


def test_bins_grow_and_nothing_is_lost() -> None:
    random = np.random.default_rng(0)
    parts = [random.normal(0, scale, 1000) for scale in (0.1, 1, 5, 0.1)]
    made = histogram(*parts)
    values = np.concatenate(parts)
    assert made.counts.sum() == values.size
    assert (made.low, made.high) == (values.min(), values.max())
    assert float((made.counts * made.centres()).sum() / values.size) == pytest.approx(values.mean(), abs=0.02)


def test_a_percentile_cuts_the_tail_and_keeps_zero() -> None:
    values = np.concatenate([np.linspace(0, 1, 99_900), np.full(100, 50.0)])
    assert percentile_range(histogram(values), 99.8) == (0.0, pytest.approx(1.0, abs=0.05))
    low, high = percentile_range(histogram(np.concatenate([values, -values])), 99.8)
    assert low == pytest.approx(-high, abs=0.1)
    assert percentile_range(histogram(values), 100.0) == (0.0, pytest.approx(50.0, rel=0.01))


def test_mse_finds_the_range_with_the_least_error() -> None:
    values = np.random.default_rng(0).laplace(0, 1, 50_000)
    chosen = mse_range(histogram(values))
    full = (float(values.min()), float(values.max()))
    tight = (0.4 * chosen[0], 0.4 * chosen[1])
    assert squared_error(values, chosen) < 0.9 * squared_error(values, full)
    assert squared_error(values, chosen) < squared_error(values, tight)


def test_entropy_cuts_outliers_and_leaves_an_even_distribution() -> None:
    random = np.random.default_rng(0)
    outliers = entropy_range(histogram(np.concatenate([random.normal(0, 1, 50_000), [60.0, -60.0]])))
    assert outliers[1] < 40
    low, high = entropy_range(histogram(random.uniform(-1, 1, 50_000)))
    assert high - low > 1.6


@pytest.mark.parametrize("method", CHOICES)
def test_a_constant_tensor_and_a_positive_one_have_a_range(method: str) -> None:
    for values in (np.zeros(100), np.full(100, 3.0), np.full(100, -2.0)):
        low, high = CHOICES[method](histogram(values))
        assert low <= 0 <= high
        assert np.isfinite([low, high]).all()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_range_within_the_true_one_and_borders_keep_theirs(method: str) -> None:
    model, samples = tiny_cnn(), list(np.random.default_rng(0).random((40, 1, 8, 8, 3), np.float32))
    true, found = calibrate(model, samples, method="min-max").tensors, calibrate(model, samples, method=method)
    assert found.method == method
    assert found.tensors["image"] == true["image"]
    for name, (low, high) in found.tensors.items():
        assert min(true[name][0], 0) - 1e-6 <= low <= high <= max(true[name][1], 0) + 1e-6


def test_a_recipe_knows_the_methods_and_keeps_the_choice() -> None:
    assert CALIBRATION_METHODS == METHODS
    recipe = Recipe(source="m.tflite", passes=plan_passes("int8", "aeq", "default", method="mse"))
    assert recipe.calibration_method == "mse"
    assert Recipe(source="m.tflite").calibration_method == "grouped"
    with pytest.raises(UsageError, match="calibration method"):
        plan_passes("int8", "aeq", "default", method="guess")
