"""Finding: one thing about the data that the user should know, with what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

NOTE = "note"
WARNING = "warning"
SEVERE = "severe"
SEVERITIES = (NOTE, WARNING, SEVERE)
"""In rising order. severe: the numbers of a conversion would mislead, or the model would not work."""


@dataclass(frozen=True)
class Finding:
    """check: the name of what was looked for ("range", "leak"). what, fix: one line each. numbers: as measured."""

    check: str
    severity: str
    what: str
    fix: str
    numbers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """One line for people: what, and what to do."""
        return f"{self.what} -> {self.fix}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "severity": self.severity,
            "what": self.what,
            "fix": self.fix,
            "numbers": dict(self.numbers),
        }


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The gravest first; else in the order they came."""
    return tuple(sorted(findings, key=lambda f: -SEVERITIES.index(f.severity)))
