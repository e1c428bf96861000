"""Which scaling a model was trained with, found by trying the usual ones on labelled samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeloop.affine import dequantize
from edgeloop.contract import InputSpec
from edgeloop.errors import ConfigError
from edgeloop.preprocess import compile_input
from edgeloop.runtime import Session
from edgeloop_converters.data import Dataset, pick
from edgeloop_converters.evaluate.metrics import is_chance

FIRST_LOOK = 40
SECOND_LOOK = 200
_STILL_IN_THE_RACE = 0.2
_CLEAR = 2.0
WITH_BACKGROUND = 1001


@dataclass(frozen=True)
class Scaling:
    """One usual way to scale pixels. `mean` and `std` are per channel in the model's channel order."""

    title: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    colors: tuple[str, ...] = ("rgb", "bgr", "gray")


# In order of how much is said for each when the data do not tell them apart.
SCALINGS = (
    Scaling("pixels 0..255", (0.0,), (1.0,)),
    Scaling("0..1", (0.0,), (255.0,)),
    Scaling("-1..1", (127.5,), (127.5,)),
    Scaling("ImageNet mean and std", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), ("rgb",)),
    Scaling("ImageNet mean", (103.939, 116.779, 123.68), (1.0,), ("bgr",)),
)


@dataclass(frozen=True)
class Trial:
    """What came of one candidate. offset: added to the data's class ids (a background class in front)."""

    spec: InputSpec
    title: str
    offset: int
    accuracy: float
    log_likelihood: float

    @property
    def full_title(self) -> str:
        return f"{self.title}, class ids + {self.offset}" if self.offset else self.title


@dataclass(frozen=True)
class Choice:
    """best, whether the data tell it clearly from the others, and all trials of the last round, best first."""

    best: Trial
    clear: bool
    trials: tuple[Trial, ...]
    samples: int
    classes: int

    @property
    def is_chance(self) -> bool:
        """Whether even the best is no better than guessing."""
        return is_chance(self.best.accuracy, self.samples, self.classes)


def candidates(spec: InputSpec, colors: Sequence[str]) -> list[tuple[InputSpec, str]]:
    """All usual scalings of an input; `colors` holds the channel orders to try (none for tensors)."""
    found = []
    for color in colors or ("",):
        for scaling in SCALINGS:
            if color and color not in scaling.colors:
                continue
            if not color and len(scaling.mean) > 1:
                continue
            changed = replace(spec, mean=scaling.mean, std=scaling.std, color=color or spec.color)
            title = f"{scaling.title}, {color}" if len(colors) > 1 else scaling.title
            found.append((changed, title))
    return found


def choose_scaling(
    session: Session, dataset: Dataset, options: Sequence[tuple[InputSpec, str]], *, seed: int = 0
) -> Choice | None:
    """Try every option on a few labelled samples, the good ones on more. None when there is nothing to choose by."""
    if dataset.labels is None or len(session.outputs) != 1 or len(session.inputs) != 1:
        return None
    classes = int(np.prod(session.outputs[0].shape))
    if classes < 2 or int(dataset.labels.max()) >= classes:
        return None
    offsets = (0, 1) if _may_have_background(dataset, classes) else (0,)
    trials = _round(session, dataset, options, offsets, FIRST_LOOK, seed)
    samples = min(FIRST_LOOK, len(dataset))
    kept = [t for t in trials if t.accuracy >= trials[0].accuracy - _STILL_IN_THE_RACE][:6]
    if len(kept) > 1 and len(dataset) > FIRST_LOOK:
        again = [(t.spec, t.title) for t in kept]
        trials = _round(session, dataset, list(dict.fromkeys(again)), offsets, SECOND_LOOK, seed)
        samples = min(SECOND_LOOK, len(dataset))
        kept = trials
    best = _smaller_if_as_good(trials, samples)
    return Choice(best, _is_clear(kept, samples), tuple(trials), samples, classes)


def _may_have_background(dataset: Dataset, classes: int) -> bool:
    """ImageNet models come with 1000 classes and with a background class in front of them."""
    if classes != WITH_BACKGROUND or dataset.class_names is not None or dataset.labels is None:
        return False
    return int(dataset.labels.max()) < WITH_BACKGROUND - 1


def _is_clear(trials: Sequence[Trial], samples: int) -> bool:
    return len(trials) < 2 or trials[0].accuracy - trials[1].accuracy > _CLEAR * _spread(trials[0], samples)


def _smaller_if_as_good(trials: Sequence[Trial], samples: int) -> Trial:
    """The best trial, or the best with smaller inputs where that is as good.

    A model trained on 0..1 often bears 0..255 (ReLU nets only lose their biases); one trained on 0..255 sees nothing
    in 0..1. So where both work, the smaller is what it was trained with.
    """
    best = trials[0]
    if min(best.spec.std) > 1:
        return best
    as_good = best.accuracy - _spread(best, samples)
    smaller = [t for t in trials if min(t.spec.std) > 1 and t.offset == best.offset and t.accuracy >= as_good]
    return smaller[0] if smaller else best


def _spread(trial: Trial, samples: int) -> float:
    """Standard error of an accuracy."""
    return float(np.sqrt(max(trial.accuracy * (1 - trial.accuracy), 1e-3) / samples))


def _round(
    session: Session,
    dataset: Dataset,
    options: Sequence[tuple[InputSpec, str]],
    offsets: Sequence[int],
    count: int,
    seed: int,
) -> list[Trial]:
    """Trials, best first. Options that do not fit the model's input are left out."""
    assert dataset.labels is not None
    indices = pick(dataset, count, seed)
    labels = dataset.labels[indices]
    frames = [dataset.sample(int(i)) for i in indices]
    trials = []
    for spec, title in options:
        outputs = outputs_with(session, spec, frames)
        if outputs is None:
            continue
        for offset in offsets:
            accuracy, likelihood = _score(outputs, labels + offset)
            trials.append(Trial(spec, title, offset, accuracy, likelihood))
    # Likelihood settles what accuracy on a few samples cannot; the sort is stable, so the more usual one comes first.
    return sorted(trials, key=lambda t: (-t.accuracy, -t.log_likelihood))


def outputs_with(session: Session, spec: InputSpec, frames: Sequence[np.ndarray]) -> np.ndarray | None:
    """float32 [n, classes]: what the model says of `frames` read by `spec`; None where `spec` does not fit its input.

    Raises DataError for frames that do not fit.
    """
    try:
        prepare = compile_input(spec, session.inputs[0])
    except ConfigError:
        return None
    outputs = np.empty((len(frames), int(np.prod(session.outputs[0].shape))), np.float32)
    for row, frame in enumerate(frames):
        session.set_input(0, prepare(frame))
        session.invoke()
        outputs[row] = dequantize(session.output(0), session.outputs[0].affine).reshape(-1)
    return outputs


def _score(outputs: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """(accuracy, mean log probability of the true class); outputs are probabilities or logits."""
    accuracy = float((outputs.argmax(axis=1) == labels).mean())
    probabilities = outputs
    if outputs.min() < 0 or abs(float(outputs.sum(axis=1).mean()) - 1) > 0.05:
        shifted = outputs - outputs.max(axis=1, keepdims=True)
        probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    true = probabilities[np.arange(len(labels)), labels]
    return accuracy, float(np.log(np.maximum(true, 1e-7)).mean())
