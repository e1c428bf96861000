"""What a pass says about itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_ERRORS = {
    "error": "",
    "held_out_error": " on samples that it did not see",
    "output_error": " on samples that it saw",
    "varying_error": " on samples that it saw",
}
"""Mean squared errors of the outputs, relative to the outputs' variance, by where they were measured."""

_AMOUNTS = {
    "macs": ("MACs", ""),
    "bytes": ("weights", "B"),
    "xz_bytes": ("compressed by xz", "B"),
    "peak_memory_bytes": ("peak memory", "B"),
    "ops": ("ops", ""),
    "cost": ("cost", ""),
}
"""Large numbers: how each is called, and its unit. What did not change is left out."""
_PREFIXES = ("", "k", "M", "G", "T")


@dataclass(frozen=True)
class PassReport:
    """One pass: what it did, how long it took and what it gained.

    before, after: figures by name, measured on the samples that the pass itself did not see (`held_out_*`) or on those
    it optimised on. accepted: False when the result was worse than before and therefore dropped. history: figures by
    name, epoch by epoch, of a pass that trains.
    """

    name: str
    detail: str
    seconds: float
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    accepted: bool = True
    history: tuple[Mapping[str, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "detail": self.detail,
            "seconds": round(self.seconds, 3),
            "before": dict(self.before),
            "after": dict(self.after),
            "accepted": self.accepted,
            **({"history": [dict(epoch) for epoch in self.history]} if self.history else {}),
        }

    def note(self) -> str:
        """One line for people."""
        pairs = {k: (v, self.after[k]) for k, v in self.before.items() if k in self.after}
        if pairs.get("cost") == pairs.get("bytes"):  # weights were the cost
            pairs.pop("cost", None)
        told = (_figure(name, *pair) for name, pair in pairs.items())
        figures = "; ".join(filter(None, told))
        fate = "" if self.accepted else "; not kept"
        return f"{self.name}: {self.detail}{f' ({figures})' if figures else ''}, {self.seconds:.1f} s{fate}"


def _figure(name: str, before: float, after: float) -> str:
    if name in _ERRORS:
        return f"error {f'{before:.3%} -> ' if before else ''}{after:.3%} of the outputs' variance{_ERRORS[name]}"
    if name in _AMOUNTS:
        told, unit = _AMOUNTS[name]
        return "" if before == after else f"{told} {_amount(before, unit)} -> {_amount(after, unit)}"
    return f"{name.replace('_', ' ')} {before:.4g} -> {after:.4g}"


def _amount(value: float, unit: str) -> str:
    power = min(int(math.log10(max(value, 1))) // 3, len(_PREFIXES) - 1)
    return f"{value / 1000**power:.3g} {_PREFIXES[power]}{unit}".rstrip()
