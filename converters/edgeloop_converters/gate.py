"""The gate: a measurement of the exported file against the goals. Pure; nothing here runs a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeloop.bundle import Metrics
from edgeloop.errors import UsageError
from edgeloop_converters.goals import Goals

_ROUNDING = 1e-9
"""Fractions of counts: 0.755 - 0.750 must not miss a goal of 0.005 by a rounding error."""


@dataclass(frozen=True)
class Measurement:
    """What was measured on the exported file.

    metric_name: "accuracy" with labels, else "agreement". float_metric, metric, agreement: fractions 0..1, None where
    it could not be measured. p95_ms holds only a latency measured on the target itself (or a machine of its kind).
    guesses: the model gets no more labels right than guessing would.
    """

    metric_name: str
    float_metric: float | None
    metric: float | None
    agreement: float | None
    samples: int
    bytes: int
    p95_ms: float | None = None
    guesses: bool = False


@dataclass(frozen=True)
class Gate:
    """`reasons` says why it did not pass; `unverified` names goals that could not be measured here.

    judged: how many goals were measured. guesses: they say little, because the model does no better than guessing.
    """

    passed: bool
    reasons: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    judged: int = 0
    guesses: bool = False

    @property
    def verdict(self) -> str:
        """The verdict on the goals in words; what was not judged does not count as met."""
        if not self.passed:
            return "NOT met"
        missing = ", ".join(goal.split(" ", 1)[0] for goal in self.unverified)
        if missing and not self.judged:
            said = f"not judged: {missing}"
        else:
            said = f"met where judged; {missing} not judged" if missing else "met"
        return f"{said}, but the model does no better than guessing" if self.guesses else said

    def to_dict(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "verdict": self.verdict if self.judged or self.unverified else "no goals were set",
            "reasons": list(self.reasons),
            "unverified": list(self.unverified),
            "guesses": self.guesses,
        }


def joined(gates: Mapping[str, Gate]) -> Gate:
    """One verdict on several variants: passed where all did; with several, each reason names its variant."""
    if len(gates) == 1:
        return next(iter(gates.values()))

    def named(attribute: str) -> tuple[str, ...]:
        return tuple(f"{name}: {text}" for name, gate in gates.items() for text in getattr(gate, attribute))

    every = gates.values()
    return Gate(
        all(g.passed for g in every), named("reasons"), tuple(dict.fromkeys(u for g in every for u in g.unverified)),
        min(g.judged for g in every), any(g.guesses for g in every),
    )  # fmt: skip


def check_goals_fit(goals: Goals, *, has_labels: bool, why_not: str = "") -> None:
    """Before any work: `max_drop` needs labels. Raises UsageError, which also says how to go on without."""
    if goals.max_drop is not None and not has_labels:
        because = why_not or "the evaluation data have no labels"
        raise UsageError(
            f"--max-drop needs labels, and {because}",
            hint="use --min-agreement 0.96, or give --eval labels: class folders, labels.csv, or y in an .npz",
        )


def judge(goals: Goals, measured: Measurement) -> Gate:
    """Every goal that is set is looked at; a goal on accuracy that could not be measured counts as missed."""
    reasons: list[str] = []
    unverified: list[str] = []
    if goals.max_drop is not None:
        reasons += _judge_drop(goals.max_drop, measured)
    if goals.min_agreement is not None:
        if measured.agreement is None:
            reasons.append("agreement could not be measured: there is no float model to compare with")
        elif measured.agreement < goals.min_agreement - _ROUNDING:
            reasons.append(
                f"agreement with the float model is {measured.agreement:.2%} on {measured.samples} samples, "
                f"below the goal of {goals.min_agreement:.2%}"
            )
    if goals.max_bytes is not None and measured.bytes > goals.max_bytes:
        reasons.append(f"the model has {measured.bytes} bytes, more than the goal of {goals.max_bytes}")
    if goals.p95_ms is not None:
        if measured.p95_ms is None:
            unverified.append(f"p95 <= {goals.p95_ms:g} ms: not measured on the target")
        elif measured.p95_ms > goals.p95_ms:
            reasons.append(f"p95 is {measured.p95_ms:.3g} ms, more than the goal of {goals.p95_ms:g} ms")
    judged = len(goals.to_dict()) - len(unverified)
    return Gate(not reasons, tuple(reasons), tuple(unverified), judged, measured.guesses)


def _judge_drop(max_drop: float, measured: Measurement) -> list[str]:
    if measured.float_metric is None or measured.metric is None:
        return ["the drop could not be measured: there is no float metric on these data"]
    drop = measured.float_metric - measured.metric
    if drop <= max_drop + _ROUNDING:
        return []
    return [
        f"{measured.metric_name} drops by {drop * 100:.2f} pt on {measured.samples} samples (float "
        f"{measured.float_metric:.2%}, now {measured.metric:.2%}), more than the goal of {max_drop * 100:g} pt"
    ]


def missed_quality(goals: Goals, metrics: Metrics) -> tuple[str, ...]:
    """Why a goal on the answers is missed. Goals on bytes and latency are not repaired: repairs only add to both."""
    quality = Goals(max_drop=goals.max_drop, min_agreement=goals.min_agreement)
    measured = Measurement(metrics.metric, metrics.float_, metrics.this, metrics.agreement, metrics.n, 0)
    return judge(quality, measured).reasons
