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

LOOKS = ((16, 0.35), (40, 0.2), (80, 0.15), (200, 0.0))
"""Samples looked at so far, and how far behind the best in accuracy an option may be to be tried on more."""
_FEWEST = 40
"""Nobody believes what was seen on less."""
_MOST_TRIED_AGAIN = 6
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
    session: Session,
    dataset: Dataset,
    options: Sequence[tuple[InputSpec, str]],
    *,
    output: int = 0,
    seed: int = 0,
) -> Choice | None:
    """Try every option on a few labelled samples, the good ones on more. None when there is nothing to choose by.

    output: which one holds the classes.
    """
    if dataset.labels is None or len(session.inputs) != 1:
        return None
    classes = int(np.prod(session.outputs[output].shape))
    if classes < 2 or int(dataset.labels.max()) >= classes:
        return None
    offsets = (0, 1) if _may_have_background(dataset, classes) else (0,)
    indices = np.random.default_rng(seed).permutation(pick(dataset, LOOKS[-1][0], seed))
    racing = [_Racer(spec, title, []) for spec, title in options]
    trials: list[Trial] = []
    seen = 0
    for count, behind in LOOKS:
        block = indices[seen:count]
        frames = [dataset.sample(int(i)) for i in block]
        racing = [racer for racer in racing if racer.look(session, frames, output)]
        seen += len(block)
        labels = dataset.labels[indices[:seen]]
        trials = _by_merit([trial for racer in racing for trial in racer.trials(labels, offsets)])
        if not trials:
            return None
        ahead = [t for t in trials if t.accuracy >= trials[0].accuracy - behind][:_MOST_TRIED_AGAIN]
        racing = [racer for racer in racing if any(t.spec is racer.spec for t in ahead)]
        # A few samples may look like guessing; that is said only of all.
        settled = len(ahead) < 2 and not is_chance(trials[0].accuracy, seen, classes)
        if (settled and seen >= _FEWEST) or seen == len(indices):
            break
    best = _usual_order_if_as_good(_smaller_if_as_good(trials, seen), trials, seen)
    clear = len(ahead) < 2 or _is_clear(trials, seen)
    return Choice(best, clear, tuple(trials), seen, classes)


@dataclass
class _Racer:
    """An option and what the model said with it so far: float32 [n, classes] per look."""

    spec: InputSpec
    title: str
    outputs: list[np.ndarray]

    def look(self, session: Session, frames: Sequence[np.ndarray], output: int) -> bool:
        """False where the option does not fit the model's input."""
        found = outputs_with(session, self.spec, frames, output)
        if found is not None:
            self.outputs.append(found)
        return found is not None

    def trials(self, labels: np.ndarray, offsets: Sequence[int]) -> list[Trial]:
        outputs = np.concatenate(self.outputs)
        return [Trial(self.spec, self.title, offset, *_score(outputs, labels + offset)) for offset in offsets]


def _by_merit(trials: Sequence[Trial]) -> list[Trial]:
    """Best first. Likelihood settles what accuracy on a few samples cannot; the sort is stable, so the more usual one
    comes first.
    """
    return sorted(trials, key=lambda t: (-t.accuracy, -t.log_likelihood))


def _may_have_background(dataset: Dataset, classes: int) -> bool:
    """ImageNet models come with 1000 classes and with a background class in front of them."""
    if classes != WITH_BACKGROUND or dataset.class_names is not None or dataset.labels is None:
        return False
    return int(dataset.labels.max()) < WITH_BACKGROUND - 1


def _is_clear(trials: Sequence[Trial], samples: int) -> bool:
    return trials[0].accuracy - trials[1].accuracy > _CLEAR * _spread(trials[0], samples)


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


def _usual_order_if_as_good(best: Trial, trials: Sequence[Trial], samples: int) -> Trial:
    """RGB instead of BGR where the samples do not tell them apart: far more models are trained on it."""
    if best.spec.color != "bgr":
        return best
    as_good = best.accuracy - _spread(best, samples)
    usual = replace(best.spec, color="rgb")
    twins = [t for t in trials if t.spec == usual and t.offset == best.offset and t.accuracy >= as_good]
    return twins[0] if twins else best


def _spread(trial: Trial, samples: int) -> float:
    """Standard error of an accuracy."""
    return float(np.sqrt(max(trial.accuracy * (1 - trial.accuracy), 1e-3) / samples))


def outputs_with(session: Session, spec: InputSpec, frames: Sequence[np.ndarray], output: int = 0) -> np.ndarray | None:
    """float32 [n, values]: what the model says of `frames` read by `spec`; None where `spec` does not fit its input.

    Raises DataError for frames that do not fit.
    """
    try:
        prepare = compile_input(spec, session.inputs[0])
    except ConfigError:
        return None
    outputs = np.empty((len(frames), int(np.prod(session.outputs[output].shape))), np.float32)
    for row, frame in enumerate(frames):
        session.set_input(0, prepare(frame))
        session.invoke()
        outputs[row] = dequantize(session.output(output), session.outputs[output].affine).reshape(-1)
    return outputs


def _score(outputs: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """(accuracy, mean log probability of the true class); outputs are probabilities or logits."""
    accuracy = float((outputs.argmax(axis=1) == labels).mean())
    probabilities = outputs
    with np.errstate(invalid="ignore", over="ignore"):  # a model may answer NaN or infinity
        if outputs.min() < 0 or abs(float(outputs.sum(axis=1).mean()) - 1) > 0.05:
            shifted = outputs - outputs.max(axis=1, keepdims=True)
            probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    true = probabilities[np.arange(len(labels)), labels]
    return accuracy, float(np.log(np.maximum(true, 1e-7)).mean())
