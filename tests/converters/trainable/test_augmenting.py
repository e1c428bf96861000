"""Changes of a batch's inputs: ready-made ones, and what becomes of those that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.errors import ConfigError, UsageError
from edgeloop.graph import Graph
from edgeloop.progress import SilentProgress
from edgeloop_converters.passes import distill, fine_tune
from edgeloop_converters.recipe_options import AUGMENTS
from edgeloop_converters.recipe_steps import PassStep
from edgeloop_converters.trainable import TrainingOptions, augmenting, chained, flips_and_shifts, mixed
from edgeloop_converters.trainable.augmenting import augment_named, augmented
from edgeloop_converters.trainable.data import training_data
from edgeloop_converters.trainable.fingerprint import data_fingerprint
from support.learning import pictures
from support.tiny_models import tiny_cnn

BYTES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)


def once(augment: Any, *inputs: Any, seed: int = 1) -> Any:
    return augmented(augment, inputs, np.random.default_rng(seed))[0]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda x: (x.astype(np.float32),), r"augment returned float32 \[6, 8, 8, 3\] for input 0, wanted uint8"),
        (lambda x: (x[:, :4],), r"augment returned uint8 \[6, 4, 8, 3\] for input 0, wanted uint8 \[6, 8, 8, 3\]"),
        (lambda x: (x[:2],), r"augment returned uint8 \[2, 8, 8, 3\] for input 0"),
        (lambda x: (x, x), "augment returned 2 arrays, wanted a tuple of 1"),
        (lambda x: x, "augment returned one ndarray, wanted a tuple of 1"),
        (lambda x: None, "augment returned one NoneType"),
    ],
)
def test_what_does_not_fit_the_samples_is_said_in_one_line(made: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        once(lambda inputs, random: made(inputs[0]), BYTES)
    assert "\n" not in str(caught.value)


def test_floats_of_another_width_are_converted() -> None:
    floats = BYTES.astype(np.float32)
    assert once(lambda inputs, random: (inputs[0] * np.float64(2),), floats).dtype == np.float32


def test_mixed_samples_lie_between_two_of_the_batch() -> None:
    two = np.stack([np.zeros((4, 4, 1), np.uint8), np.full((4, 4, 1), 200, np.uint8)])
    changed = np.concatenate([once(mixed(1.0), two, seed=seed) for seed in range(9)])
    assert changed.dtype == np.uint8 and len(np.unique(changed)) > 4
    assert all(len(np.unique(picture)) == 1 for picture in changed)  # one weight for all of a sample
    assert np.array_equal(once(mixed(1.0), two, seed=3), once(mixed(1.0), two, seed=3))
    few = once(mixed(0.25), np.random.default_rng(0).random((400, 5)).astype(np.float32))
    whole = np.random.default_rng(0).random((400, 5)).astype(np.float32)
    assert 50 < int((few != whole).any(axis=1).sum()) < 150
    with pytest.raises(UsageError, match="an input is int32"):
        once(mixed(), np.zeros((4, 2), np.int32))
    with pytest.raises(UsageError, match="share of mixed samples is 0"):
        mixed(0)


def test_several_inputs_are_mixed_alike() -> None:
    ramp = np.arange(8, dtype=np.float32)[:, None]
    left, right = augmented(mixed(1.0), (ramp, 10 * ramp), np.random.default_rng(0))
    assert np.allclose(10 * left, right, atol=1e-4) and not np.allclose(left, ramp)


def test_shifting_what_is_no_picture_is_refused() -> None:
    with pytest.raises(UsageError, match=r"flips and shifts are for pictures .* not \[4, 10\]"):
        once(flips_and_shifts(), np.zeros((4, 10), np.float32))


def test_two_functions_of_one_name_are_told_apart_by_what_they_do() -> None:
    def brighter(by: int) -> Any:
        return lambda inputs, random: (inputs[0] // 2 + np.uint8(by),)

    data, progress = training_data(BYTES), SilentProgress()
    made = [None, brighter(1), brighter(2), flips_and_shifts(1), flips_and_shifts(3), mixed(), mixed(0.9)]
    prints = [data_fingerprint(data, augment, progress) for augment in made]
    assert len(set(prints)) == len(made) and not progress.notes
    assert prints == [data_fingerprint(data, augment, progress) for augment in made]
    assert prints[0] != data_fingerprint(training_data(255 - BYTES), None, progress)
    chance = np.random.default_rng()
    data_fingerprint(data, lambda inputs, random: (chance.permuted(inputs[0], axis=0),), progress)
    assert "this training cannot be repeated" in progress.notes[0]


def test_a_recipe_names_them() -> None:
    assert tuple(augmenting.AUGMENTS) == AUGMENTS
    assert augment_named("none") is None
    assert augment_named("flips") == flips_and_shifts()
    assert augment_named(["flips", "mix"]) == chained(flips_and_shifts(), mixed())
    PassStep("distill", {"augment": ["flips", "mix"]})
    for name, more in (("fine-tune", {}), ("distill", {"labels": True}), ("qat", {"labels": True})):
        with pytest.raises(ConfigError, match="learns labels, and mixed samples have none"):
            PassStep(name, {"augment": ["mix"], **more})
    with pytest.raises(ConfigError, match="augment must be none, or a list of some of flips, mix"):
        PassStep("distill", {"augment": ["turn"]})


@pytest.mark.tensorflow
def test_mixing_teaches_a_student_by_its_teacher_only(tmp_path: Path) -> None:
    samples, classes = pictures(48)
    model = Graph.read(tiny_cnn())
    options = TrainingOptions(epochs=2, batch=16, augment=chained(flips_and_shifts(1), mixed()), checkpoints=tmp_path)
    with pytest.raises(UsageError, match="mixed samples have no labels"):
        fine_tune(model, samples=samples, labels=classes, options=options)
    learnt, report = distill(Graph.read(tiny_cnn(seed=3)), model, samples=samples, options=options)
    assert len(report.history) == 2 and np.isfinite(report.after["validation loss"])
    assert distill(Graph.read(tiny_cnn(seed=3)), model, samples=samples, options=options)[0].write() == learnt.write()
