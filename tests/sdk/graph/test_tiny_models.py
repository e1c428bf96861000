"""The builders of small models that other tests stand on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from support.interpreting import run
from support.tiny_models import tiny_cnn, tiny_mlp, tiny_residual, tiny_two_inputs


@pytest.mark.parametrize("build", [tiny_cnn, tiny_mlp, tiny_residual])
def test_classifiers_run_and_give_a_distribution(build: Callable[[], bytes]) -> None:
    (scores,) = run(build())
    assert scores.shape[0] == 1
    assert scores.sum() == pytest.approx(1.0, abs=1e-5)
    assert len(build()) < 10_000


def test_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    assert tiny_cnn(3) == tiny_cnn(3)
    assert tiny_cnn(3) != tiny_cnn(4)


def test_input_matters() -> None:
    model = tiny_cnn()
    assert not np.array_equal(run(model, seed=1)[0], run(model, seed=2)[0])


def test_two_inputs_are_added() -> None:
    total, _ = run(tiny_two_inputs(), inputs=[np.ones((1, 4), np.float32), np.full((1, 4), 2, np.float32)])
    assert total.tolist() == [[3, 3, 3, 3]]
