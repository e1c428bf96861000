"""What the agent is told about gate, governor and cascade: checked values, and their form on the way to the worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgeloop.errors import UsageError
from edgeloop_agent.activation.levels import Law

PREFERENCES = ("rate", "accuracy")
DEFAULT_WARM_MIB = 64.0


@dataclass(frozen=True)
class GateSettings:
    """audit_every: of the frames that could be gated one in so many is inferred; max_difference: share of other results
    that is borne (the threshold shrinks above it and grows below); max_age_s: a result is not reused for longer."""

    audit_every: int = 20
    max_difference: float = 0.01
    max_age_s: float = 10.0
    remembered: int = 4


@dataclass(frozen=True)
class CascadeSettings:
    """The light variant answers ("": the cheapest there is) where its confidence is at least `threshold`."""

    threshold: float
    variant: str = ""


@dataclass(frozen=True)
class ExitSettings:
    """The model stops at its output `output` where that one's confidence is at least `threshold` (None: the one that
    the bundle proposes). expected_share: of inputs that need all of the model, as far as the bundle knows."""

    output: str
    threshold: float | None
    expected_share: float = 1.0


@dataclass(frozen=True)
class ActivationSettings:
    """None: that part is off. record: a file for the load trace, "" for none."""

    gate: GateSettings | None = None
    law: Law | None = None
    cascade: CascadeSettings | None = None
    exit_head: ExitSettings | None = None
    warm_bytes: int = int(DEFAULT_WARM_MIB * 2**20)
    record: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> ActivationSettings:
        gate, law, cascade, exit_head = data["gate"], data["law"], data["cascade"], data["exit_head"]
        return ActivationSettings(
            gate=None if gate is None else GateSettings(**gate),
            law=None if law is None else Law(**law),
            cascade=None if cascade is None else CascadeSettings(**cascade),
            exit_head=None if exit_head is None else ExitSettings(**exit_head),
            warm_bytes=data["warm_bytes"],
            record=data["record"],
        )


def parse_cascade(text: str) -> CascadeSettings:
    """`CONFIDENCE` or `VARIANT:CONFIDENCE`. Raises UsageError."""
    variant, _, number = text.rpartition(":")
    threshold = _confidence(number)
    if threshold is None:
        raise UsageError(f"cascade {text!r} is not a confidence from 0 to 1", hint="for example 0.8, or int8-lite:0.8")
    return CascadeSettings(threshold, variant)


def parse_exit_head(text: str) -> ExitSettings:
    """`OUTPUT:CONFIDENCE`, or `OUTPUT`. Raises UsageError."""
    output, colon, number = text.rpartition(":")
    if not colon and text and _confidence(text) is None:
        return ExitSettings(text, None)
    threshold = _confidence(number)
    if not output or threshold is None:
        raise UsageError(
            f"exit_head {text!r} is not an output and a confidence from 0 to 1", hint="for example early:0.8"
        )
    return ExitSettings(output, threshold)


def _confidence(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 < value <= 1.0 else None


def check_range(name: str, value: float | None, low: float, high: float, unit: str = "") -> None:
    """Raises UsageError."""
    if value is not None and not low <= value <= high:
        raise UsageError(f"{name} must be {low:g} to {high:g}{unit}, got {value:g}")
