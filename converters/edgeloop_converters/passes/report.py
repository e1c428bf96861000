"""What a pass says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class PassReport:
    """One pass: what it did, how long it took and what it gained.

    before, after: figures by name, measured on the samples that the pass itself did not see (`held_out_*`) or on those
    it optimised on. accepted: False when the result was worse than before and therefore dropped.
    """

    name: str
    detail: str
    seconds: float
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    accepted: bool = True

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "detail": self.detail,
            "seconds": round(self.seconds, 3),
            "before": dict(self.before),
            "after": dict(self.after),
            "accepted": self.accepted,
        }

    def note(self) -> str:
        """One line for people."""
        figures = ", ".join(f"{k} {v:.4g} -> {self.after[k]:.4g}" for k, v in self.before.items() if k in self.after)
        fate = "" if self.accepted else "; not kept"
        return f"{self.name}: {self.detail}{f' ({figures})' if figures else ''}, {self.seconds:.1f} s{fate}"
