"""How to train: data only."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.errors import UsageError

if TYPE_CHECKING:
    from edgeloop_converters.trainable.augmenting import Augment

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("cosine", "step", "constant")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class TrainingOptions:
    """epochs, batch (samples): as everywhere. rate: the learning rate at its highest.

    schedule: "cosine" falls to `final` of the rate, "step" multiplies it by `step_factor` every `step_epochs`;
    `warmup_steps` rise to it linearly first. momentum: of "sgd". clip_norm: of all gradients together; 0: none.
    l2, l1: penalties on weights (not biases), added to the gradients. dropout: share left out before dense layers.
    validation: share of the data to choose by, never learnt from. patience: epochs without a lower validation loss
    after which it ends; 0: never. precision: "bfloat16" computes in it and keeps float32 variables.
    augment: changes a batch's inputs at random. checkpoints: folder to resume from after any end; None: none are
    written. checkpoint_steps: steps between two, beside those at each epoch's end. tensorboard: folder for its event
    files. on_epoch: called with each epoch's figures by name. stop: asked before every step; once it says
    so, the training ends with the best weights so far.
    """

    epochs: int = 10
    batch: int = 32
    rate: float = 1e-3
    optimizer: str = "adam"
    schedule: str = "cosine"
    final: float = 0.01
    step_epochs: int = 10
    step_factor: float = 0.1
    warmup_steps: int = 0
    momentum: float = 0.9
    clip_norm: float = 0.0
    l2: float = 0.0
    l1: float = 0.0
    dropout: float = 0.0
    validation: float = 0.1
    patience: int = 0
    precision: str = "float32"
    augment: Augment | None = None
    checkpoints: Path | str | None = None
    checkpoint_steps: int = 1000
    tensorboard: Path | str | None = None
    on_epoch: Callable[[Mapping[str, float]], None] | None = None
    stop: Callable[[], bool] | None = None

    def __post_init__(self) -> None:
        """Raises UsageError naming the option that cannot be so."""
        for name, allowed in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} {getattr(self, name)!r} is not known", hint=f"one of: {', '.join(allowed)}")
        for name in ("epochs", "batch", "step_epochs", "checkpoint_steps"):
            _check(name, getattr(self, name), is_whole(getattr(self, name), 1), "a whole number from 1")
        for name in ("warmup_steps", "patience"):
            _check(name, getattr(self, name), is_whole(getattr(self, name), 0), "a whole number from 0")
        for name in ("l2", "l1", "clip_norm", "final", "step_factor"):
            _check(name, getattr(self, name), _is_number(getattr(self, name)), "a number from 0")
        for name in ("dropout", "validation", "momentum"):
            value = getattr(self, name)
            _check(name, value, _is_number(value) and value < 1, "from 0 to below 1")
        _check("rate", self.rate, _is_number(self.rate) and self.rate > 0, "a number above 0")
        _check("augment", self.augment, self.augment is None or callable(self.augment),
               "a function, as flips_and_shifts() gives it")  # fmt: skip

    def described(self) -> dict[str, Any]:
        """What decides the result, for a checkpoint to be compared by; `augment` by what it does (`fingerprint`)."""
        names = (
            "epochs", "batch", "rate", "optimizer", "schedule", "final", "step_epochs", "step_factor", "warmup_steps",
            "momentum", "clip_norm", "l2", "l1", "dropout", "validation", "patience", "precision",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}


def rate_at(options: TrainingOptions, step: int, steps: int, steps_per_epoch: int) -> float:
    """The learning rate of step `step` of `steps` (from 0).

    Cosine: Loshchilov and Hutter 2017, formula 5, without restarts.
    """
    if step < options.warmup_steps:
        return options.rate * (step + 1) / options.warmup_steps
    if options.schedule == "step":
        return options.rate * options.step_factor ** (step // (steps_per_epoch * options.step_epochs))
    if options.schedule == "constant":
        return options.rate
    done = (step - options.warmup_steps) / max(1, steps - options.warmup_steps)
    return options.rate * (options.final + (1 - options.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def is_whole(value: Any, low: int) -> bool:
    return not isinstance(value, bool) and isinstance(value, numbers.Integral) and int(value) >= low


def _is_number(value: Any) -> bool:
    """A finite one from 0."""
    return not isinstance(value, bool) and isinstance(value, numbers.Real) and 0 <= float(value) < math.inf


def _check(name: str, value: object, holds: bool, wanted: str) -> None:
    if not holds:
        raise UsageError(f"{name} is {value!r}: it must be {wanted}")
