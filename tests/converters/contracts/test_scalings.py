"""Between trials that the samples do not tell apart, the usual one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeloop.contract import InputSpec
from edgeloop.runtime import open_session
from edgeloop_converters.data import open_data
from edgeloop_converters.scalings import Trial, _usual_order_if_as_good, choose_scaling
from support.tiny_models import tiny_mlp


def trial(color: str, accuracy: float, likelihood: float = -1.0) -> Trial:
    return Trial(InputSpec(kind="image", size=(8, 8), color=color, std=(255.0,)), color, 0, accuracy, likelihood)


def test_rgb_is_taken_where_bgr_is_not_clearly_better() -> None:
    bgr, rgb = trial("bgr", 1.0, -0.01), trial("rgb", 1.0, -0.02)
    assert _usual_order_if_as_good(bgr, [bgr, rgb], 200) is rgb


def test_bgr_is_taken_where_it_is() -> None:
    bgr, rgb = trial("bgr", 0.8), trial("rgb", 0.7)
    assert _usual_order_if_as_good(bgr, [bgr, rgb], 200) is bgr


def test_a_few_samples_never_say_that_a_model_guesses(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 10)).astype(np.float32)
    with open_session(tiny_mlp(classes=2)) as session:
        right = np.array([int(session.run(v[None])[0].argmax()) for v in x])
        np.savez(tmp_path / "d.npz", x=x, y=np.where(np.arange(300) % 3 == 0, 1 - right, right))
        options = [(InputSpec(kind="tensor", shape=(10,)), "values as they are")]
        found = [choose_scaling(session, open_data(tmp_path / "d.npz"), options, seed=seed) for seed in range(20)]
    assert not any(choice is None or choice.is_chance for choice in found)
