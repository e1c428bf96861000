"""What the ladder found and did, as values: they go into the report and into `repairs[]` of `--json`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FIND = "find ops"
EQUALIZATION = "equalization"
RANGES = "ranges"
BIAS = "bias correction"
ROUNDING = "rounding"
FLOAT_OPS = "float ops"
RUNGS = (EQUALIZATION, RANGES, BIAS, ROUNDING, FLOAT_OPS)
"""In the order in which they are tried: what costs nothing at run time comes first."""


FLIPS_PER_ERROR = 1.2
"""Share of other answers over the outputs' relative error: 1.0 to 1.35 for 14 mixtures of int8 and float ResNet8."""

_PRIOR_SAMPLES = 256
_NAME_LIMIT = 40


@dataclass(frozen=True)
class Score:
    """A candidate on samples that are not the evaluation's.

    agreement: mean over the samples with the float model, 0..1. error: mean square of the outputs' before a softmax, as
    far as an int8 softmax shows it, relative to their variance (0.01: a tenth of their standard deviation). accuracy,
    float_accuracy: None without labels.
    """

    samples: int
    agreement: float
    error: float
    accuracy: float | None = None
    float_accuracy: float | None = None

    @property
    def drop(self) -> float | None:
        """What is lost of the float model's accuracy, as a fraction."""
        if self.accuracy is None or self.float_accuracy is None:
            return None
        return self.float_accuracy - self.accuracy

    @property
    def loss(self) -> float:
        """What candidates are compared by: the share of other answers, estimated.

        The fewer samples counted it, the more weighs what the outputs' error lets expect: a count alone is noise on a
        few hundred samples, the error alone does not see ties in the codes.
        """
        counted = self.samples / (self.samples + _PRIOR_SAMPLES)
        return counted * (1 - self.agreement) + (1 - counted) * FLIPS_PER_ERROR * math.sqrt(self.error)

    def is_better_than(self, other: Score) -> bool:
        return self.loss < other.loss

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class OpName:
    """An op of the exported file: index in the main subgraph before any repair, builtin name, its first output."""

    index: int
    name: str
    output: str

    def text(self, places: Mapping[str, int]) -> str:
        """places: op numbers of the file that people have, by the op's output; one that is not there has none."""
        first, *fused = self.output.split(";")  # a fused op bears the names of all it was made of
        short = f"{first[: _NAME_LIMIT - 1]}…" if fused or len(first) > _NAME_LIMIT else first
        number = f" #{places[self.output]}" if self.output in places else ""
        return f"{self.name}{number} '{short}'"

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Suspect:
    """An op and what it does to the answers. before: as exported; alone: with this op, and those that read its output
    where that is better, in float. snr_db: of its output; None where it has no counterpart in the float model. last:
    of a stretch of ops that begins with `op`, where no op by itself is to blame.
    """

    op: OpName
    snr_db: float | None
    before: Score
    alone: Score
    with_readers: bool = False
    last: OpName | None = None

    def text(self, places: Mapping[str, int]) -> str:
        """places: see `OpName.text`."""
        snr = "" if self.snr_db is None else f"signal-to-noise {self.snr_db:.1f} dB, "
        what = "with its readers in float" if self.with_readers else "in float"
        name = self.op.text(places) + ("" if self.last is None else f" to {self.last.text(places)}")
        now, then = f"{self.alone.agreement:.1%}", f"{self.before.agreement:.1%}"
        agreement = "" if now == then else f"agreement {now} instead of {then}, "
        return (
            f"{name}: {snr}{what} alone {agreement}output error {self.alone.error:.2g} instead of "
            f"{self.before.error:.2g}"
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.op.to_dict(),
            "snr_db": self.snr_db,
            "with_readers": self.with_readers,
            "last": None if self.last is None else self.last.to_dict(),
            "agreement": self.alone.agreement,
            "error": self.alone.error,
        }


@dataclass(frozen=True)
class Repair:
    """One rung. tried False: it could not be or was not needed, `detail` says why. before, after: on the validation
    samples. ops: those that it moved (or, of `FIND`, suspects are in their own list). latency_ratio: the file after to
    the file before on this host, in turns; None where nothing can have changed.
    """

    name: str
    detail: str
    tried: bool = True
    accepted: bool = False
    before: Score | None = None
    after: Score | None = None
    bytes_before: int | None = None
    bytes_after: int | None = None
    ops: tuple[OpName, ...] = ()
    suspects: tuple[Suspect, ...] = ()
    latency_ratio: float | None = None
    seconds: float = 0.0

    @property
    def why_not_kept(self) -> str:
        """What went against it and the numbers that decided; "" where it was kept or nothing was compared."""
        if self.accepted or self.before is None or self.after is None or self.after == self.before:
            return ""
        if self.after.loss < self.before.loss:
            why = "too little gained"
        else:
            why = "agreement fell" if self.after.agreement < self.before.agreement else "the outputs' error rose"
        return f"{why}: other answers, estimated, {self.before.loss:.2%} -> {self.after.loss:.2%}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "detail": self.detail,
            "tried": self.tried,
            "accepted": self.accepted,
            "reason": self.why_not_kept,
            "before": None if self.before is None else self.before.to_dict(),
            "after": None if self.after is None else self.after.to_dict(),
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "ops": [op.to_dict() for op in self.ops],
            "suspects": [s.to_dict() for s in self.suspects],
            "latency_ratio": self.latency_ratio,
            "seconds": round(self.seconds, 3),
        }

    def note(self) -> str:
        """One line for people."""
        if not self.tried:
            return f"repair, {self.name}: left out, {self.detail}"
        parts = [f"repair, {self.name}: {self.detail}"]
        if self.before is not None and self.after is not None:
            parts.append(
                f"agreement {self.before.agreement:.1%} -> {self.after.agreement:.1%}, output error "
                f"{self.before.error:.2g} -> {self.after.error:.2g} on {self.after.samples} validation samples"
            )
        if self.accepted and self.bytes_before != self.bytes_after:
            parts.append(f"{self.bytes_before} -> {self.bytes_after} bytes")
        if self.latency_ratio is not None:
            parts.append(f"{self.latency_ratio:.2f}x the latency on this host")
        parts.append(f"{self.seconds:.1f} s")
        fate = "" if self.accepted or self.name == FIND else "; not kept"
        return ", ".join(parts) + fate + (f" ({self.why_not_kept})" if self.why_not_kept else "")
