"""What a conversion must reach. Pure values and their parsing; `gate` judges a measurement against them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from edgeloop.errors import UsageError

_POINTS = re.compile(r"([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*pt")
_AMBIGUOUS_FROM = 0.5
_EXAMPLES = {
    "max_drop": "max_drop=0.005, half a point",
    "min_agreement": "min_agreement=0.96",
    "p95_ms": "p95_ms=20",
    "max_bytes": "max_bytes=95_000",
}
_BYTE_UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "kib": 1 << 10, "mib": 1 << 20}


@dataclass(frozen=True)
class Goals:
    """All goals are optional; those that are set must be met by the exported file.

    max_drop: how much of the float model's metric may be lost, as a fraction (0.005 is half a point).
    min_agreement: share of samples on which the exported model answers as the float model does, 0..1.
    p95_ms: latency budget on the target. max_bytes: size of the exported model file.
    Raises UsageError for a value out of range.
    """

    max_drop: float | None = None
    min_agreement: float | None = None
    p95_ms: float | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value)
            ):
                raise UsageError(f"goal {f.name} must be a number, got {value!r}", hint=f"such as {_EXAMPLES[f.name]}")
        if self.max_drop is not None:
            check_drop(self.max_drop, str(self.max_drop))
        if self.min_agreement is not None and not 0 <= self.min_agreement <= 1:
            raise UsageError(
                f"goal min_agreement must be a fraction in 0..1, got {self.min_agreement}", hint="0.96 means 96 %"
            )
        if self.p95_ms is not None and self.p95_ms <= 0:
            raise UsageError(f"goal p95_ms must be more than 0, got {self.p95_ms}")
        if self.max_bytes is not None and (self.max_bytes < 1 or self.max_bytes != int(self.max_bytes)):
            raise UsageError(f"goal max_bytes must be a whole number of bytes, got {self.max_bytes}")

    @property
    def is_empty(self) -> bool:
        """No goal is set."""
        return all(getattr(self, f.name) is None for f in fields(self))

    @property
    def wants_quality(self) -> bool:
        """A goal on the answers is set, which repairs can help to meet."""
        return self.max_drop is not None or self.min_agreement is not None

    def to_dict(self) -> dict[str, float | int]:
        """Only the goals that are set."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Goals:
        """The inverse of `to_dict`; unknown goals raise UsageError."""
        known = {f.name for f in fields(Goals)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise UsageError(f"goal {unknown[0]!r} is not known", hint=f"known: {', '.join(sorted(known))}")
        return Goals(**data)


def parse_drop(text: str) -> float:
    """`0.5pt` (points) or `0.005` (fraction) to a fraction. A bare number >= 0.5 could be either and is refused."""
    stripped = text.strip()
    points = _POINTS.fullmatch(stripped)
    if points:
        value = float(points.group(1)) / 100
        if value > 1:
            raise UsageError(f"--max-drop {text}: more than 100 points cannot be lost")
        return value
    try:
        value = float(stripped)
    except ValueError:
        raise UsageError(
            f"--max-drop {text!r} is not a drop", hint="write 0.5pt (points) or 0.005 (fraction)"
        ) from None
    return check_drop(value, text)


def check_drop(value: float, text: str) -> float:
    """`value`, a fraction; raises UsageError where it is negative or could have been meant as points."""
    if not math.isfinite(value) or value < 0:
        raise UsageError(f"max drop {text} must be a number >= 0", hint="write 0.5pt (points) or 0.005 (fraction)")
    if value >= _AMBIGUOUS_FROM:
        raise UsageError(
            f"max drop {text} is ambiguous: points or a fraction?",
            hint=f"write {text.strip()}pt for points, or a fraction below 0.5 such as {value / 100:g}",
        )
    return value


def parse_agreement(text: str) -> float:
    """`0.96` or `96%` to a fraction 0..1. Raises UsageError."""
    stripped = text.strip()
    try:
        value = float(stripped[:-1]) / 100 if stripped.endswith("%") else float(stripped)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise UsageError(f"--min-agreement {text!r} is not a fraction in 0..1", hint="write 0.96 or 96%")
    return value


def parse_bytes(text: str) -> int:
    """`95000`, `95kB`, `1.5MiB` to bytes. Raises UsageError."""
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([a-zA-Z]*)", text.strip())
    if match is None or match.group(2).lower() not in _BYTE_UNITS:
        raise UsageError(f"--max-bytes {text!r} is not a size", hint="write 95000, 95kB or 1.5MiB")
    return int(float(match.group(1)) * _BYTE_UNITS[match.group(2).lower()])
