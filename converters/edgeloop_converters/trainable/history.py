"""What became of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Figures = Mapping[str, float]

_LESS_IS_BETTER = ("loss", "rms_error", "relative_error")


@dataclass(frozen=True)
class Epoch:
    """training: means over the epoch's steps, while it learnt (with dropout, and changed inputs). validation: after it,
    empty where there is no validation part. Both have "loss", and the learner's metrics."""

    number: int
    rate: float
    seconds: float
    training: Figures
    validation: Figures = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        named = {f"training_{k}": v for k, v in self.training.items()}
        return {**named, **{f"validation_{k}": v for k, v in self.validation.items()}, "rate": self.rate}

    def to_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "rate": self.rate,
            "seconds": self.seconds,
            "training": dict(self.training),
            "validation": dict(self.validation),
        }


@dataclass(frozen=True)
class History:
    """epochs: all that were finished. kept: the number of the epoch whose weights were kept, 0: those before it.

    stopped: why it ended early, "" where it did not. notes: what was done about trouble. before, validation, training:
    figures of the weights before, and of those kept, on the validation part, and on as many samples that were learnt
    from, both as they are; empty without a validation part.
    """

    epochs: tuple[Epoch, ...]
    kept: int
    stopped: str = ""
    notes: tuple[str, ...] = ()
    before: Figures = field(default_factory=dict)
    validation: Figures = field(default_factory=dict)
    training: Figures = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def gaps(self) -> dict[str, float]:
        """The generalization gap: how much worse the validation part is than what was learnt from, by figure; above 0
        means overfitting."""
        return {
            name: (value - self.training[name]) * (1 if name.startswith(_LESS_IS_BETTER) else -1)
            for name, value in self.validation.items()
            if name in self.training
        }

    def summary(self) -> str:
        """For a report's one line."""
        count = len(self.epochs)
        parts = [f"{count} epoch{'' if count == 1 else 's'}"]
        if self.epochs and self.kept != self.epochs[-1].number:
            parts.append(f"the weights after epoch {self.kept} kept")
        if self.stopped:
            parts.append(self.stopped)
        return ", ".join(parts)
