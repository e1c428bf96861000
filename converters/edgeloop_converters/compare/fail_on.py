"""`--fail-on "size>1.1x,drop>0.5pt,agreement<0.98"`: what may not get worse from A to B. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeloop.errors import UsageError

DATA, LABELS, TARGET, LATENCY, XZ = "data", "labels", "target", "latency", "xz"
_BYTES = {"B": 1, "kB": 1000, "MB": 1_000_000, "KiB": 1 << 10, "MiB": 1 << 20}
_TERM = re.compile(r"\s*([a-z]+)\s*([<>]=?)\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-z%]*)\s*")
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Quantity:
    """worse: ">" where more is worse. units: -> factor to the quantity's own; "x" (B over A) apart. needs: what it
    cannot be measured without. example: shown in errors.
    """

    worse: str
    units: Mapping[str, float]
    example: str
    ratio: bool = False
    needs: tuple[str, ...] = ()


QUANTITIES: Mapping[str, Quantity] = {
    "size": Quantity(">", {"": 1, **_BYTES}, "size>1.1x", ratio=True),
    "xz": Quantity(">", {"": 1, **_BYTES}, "xz>1.1x", ratio=True, needs=(XZ,)),
    "ops": Quantity(">", {"": 1}, "ops>1.0x", ratio=True),
    "unmapped": Quantity(">", {"": 1}, "unmapped>0", needs=(TARGET,)),
    "latency": Quantity(">", {"ms": 1}, "latency>1.2x", ratio=True, needs=(LATENCY,)),
    "drop": Quantity(">", {"": 1, "pt": 0.01}, "drop>0.5pt", needs=(DATA, LABELS)),
    "agreement": Quantity("<", {"": 1, "%": 0.01}, "agreement<0.98", needs=(DATA,)),
}
"""Of B, or of the step from A to B."""


@dataclass(frozen=True)
class Term:
    """`value` in the quantity's own unit (bytes, ms, fractions), or a ratio of B to A."""

    text: str
    quantity: str
    operator: str
    value: float
    is_ratio: bool

    @property
    def needs(self) -> tuple[str, ...]:
        return QUANTITIES[self.quantity].needs

    def holds(self, measured: float) -> bool:
        """Whether what the term says is so: then the comparison fails."""
        slack = _ROUNDING * max(1.0, abs(self.value))
        if self.operator == ">":
            return measured > self.value + slack
        if self.operator == ">=":
            return measured >= self.value - slack
        return measured < self.value - slack if self.operator == "<" else measured <= self.value + slack


def parse_fail_on(text: str) -> tuple[Term, ...]:
    """Terms separated by commas. Raises UsageError for what is not known, or would never mean a loss."""
    return tuple(_term(part) for part in text.split(","))


def _term(part: str) -> Term:
    match = _TERM.fullmatch(part)
    if match is None:
        raise UsageError(f"--fail-on: {part.strip()!r} is not a term", hint=f"as in {_examples()}")
    name, operator, number, unit = match.groups()
    quantity = QUANTITIES.get(name)
    if quantity is None:
        raise UsageError(
            f"--fail-on: {name!r} is not known", hint=f"known: {', '.join(QUANTITIES)}; as in {_examples()}"
        )
    if operator[0] != quantity.worse:
        raise UsageError(
            f"--fail-on: {part.strip()!r} would fail where {name} is good", hint=f"write it as {quantity.example}"
        )
    value = float(number)
    if unit == "x" and quantity.ratio:
        return Term(part.strip(), name, operator, value, True)
    if unit not in quantity.units:
        allowed = [*(["x"] if quantity.ratio else []), *(u or "none" for u in quantity.units)]
        raise UsageError(f"--fail-on: {part.strip()!r}: unit {unit or 'none'}", hint=f"one of: {', '.join(allowed)}")
    value *= quantity.units[unit]
    if name in ("drop", "agreement") and value > 1:
        raise UsageError(f"--fail-on: {part.strip()!r} is more than everything", hint=f"as in {quantity.example}")
    if name == "drop" and not unit and value >= 0.5:
        raise UsageError(f"--fail-on: {part.strip()!r} is ambiguous: points or a fraction?", hint=f"drop>{number}pt")
    return Term(part.strip(), name, operator, value, False)


def _examples() -> str:
    return ",".join(q.example for q in QUANTITIES.values())


@dataclass(frozen=True)
class Pair:
    """What was measured of A and B; None where it was not. step: of quantities that belong to both, as a drop."""

    a: float | None = None
    b: float | None = None
    step: float | None = None

    @property
    def ratio(self) -> float | None:
        """B over A; None where that says nothing."""
        if self.a is None or self.b is None or self.a <= 0:
            return None
        return self.b / self.a

    def value(self, term: Term) -> float | None:
        if term.is_ratio:
            return self.ratio
        return self.step if self.step is not None else self.b


@dataclass(frozen=True)
class Outcome:
    """One term and what was measured; failed also where it could not be measured."""

    term: Term
    measured: float | None
    failed: bool

    @property
    def reason(self) -> str:
        if self.measured is None or math.isnan(self.measured):
            return f"{self.term.text}: could not be measured"
        return f"{self.term.text}: {self.term.quantity} is {_shown(self.term, self.measured)}"


def check_terms(terms: Sequence[Term], measured: Mapping[str, Pair]) -> tuple[Outcome, ...]:
    """Every term judged; what was asked for and could not be measured fails."""
    outcomes = []
    for term in terms:
        value = measured.get(term.quantity, Pair()).value(term)
        outcomes.append(Outcome(term, value, value is None or math.isnan(value) or term.holds(value)))
    return tuple(outcomes)


def _shown(term: Term, value: float) -> str:
    if term.is_ratio:
        return f"{value:.3g}x"
    shown = {
        "drop": f"{value * 100:.2f} pt",
        "agreement": f"{value:.2%}",
        "latency": f"{value:.3g} ms",
    }
    return shown.get(term.quantity, f"{value:.0f}")
