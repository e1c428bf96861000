"""What a conversion must not pass over in silence, although no goal was set that it misses. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeloop.targets import Target
from edgeloop_converters.evaluate import Quality
from edgeloop_converters.goals import Goals
from edgeloop_converters.schemes import SCHEMES, cost_notes
from edgeloop_converters.schemes.table import FLOAT
from edgeloop_converters.schemes.verify import counted

if TYPE_CHECKING:
    from edgeloop_converters.measure import Measured
    from edgeloop_converters.recipe import Recipe

NOTABLE_DROP = 0.02
"""A loss of accuracy that is told without being asked."""
NOTABLE_AGREEMENT = {"top-1": 0.90, "cosine": 0.95}
"""Agreement with the float model below which it is told; `OTHER_AGREEMENT` for the other kinds."""
OTHER_AGREEMENT = 0.85
_ENOUGH_TO_JUDGE = 20
_MOVES_DATA_ONLY = frozenset(
    ("EMBEDDING_LOOKUP", "GATHER", "GATHER_ND", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SHAPE", "CAST", "TRANSPOSE")
)


def measured_alarms(measured: Measured, recipe: Recipe, target: Target) -> tuple[str, ...]:
    """All of them for one exported file."""
    exported = measured.candidate.exported
    return (
        *scheme_alarms(exported.scheme, target, exported.float_ops),
        *quality_alarms(measured.quality, recipe.goals, exported.scheme),
    )


def scheme_alarms(scheme: str, target: Target, float_ops: Sequence[str]) -> tuple[str, ...]:
    """A scheme that is slow on the target; layers that compute in float although the scheme is an integer one."""
    chosen = SCHEMES.get(scheme)
    slow = () if chosen is None else cost_notes(chosen, target)
    left = [name for name in float_ops if name not in _MOVES_DATA_ONLY]
    if scheme == FLOAT or not left:
        return slow
    what = f"stayed float in the {scheme} model: {counted(left)}"
    return (*slow, f"{what}; values are converted before and after them, and an accelerator leaves them to the CPU")


def quality_alarms(quality: Quality, goals: Goals, scheme: str) -> tuple[str, ...]:
    """A loss against the float model that no goal judges: accuracy, else agreement; and every other output's values.
    Before all, that outputs were not compared with their own, and that labels look swapped.
    """
    order = tuple(text for text in (quality.reordered, quality.swapped) if text)
    if quality.metrics.n < _ENOUGH_TO_JUDGE:
        return order
    own = _lost_accuracy(quality, goals, scheme) or _lost_agreement(quality, goals, scheme)
    return (*order, *own, *_lost_elsewhere(quality, scheme))


def _called(scheme: str) -> str:
    return "model" if scheme == FLOAT else f"{scheme} model"


def _reference(scheme: str) -> str:
    return "reference" if scheme == FLOAT else "float model"


def _lost_elsewhere(quality: Quality, scheme: str) -> tuple[str, ...]:
    """Outputs beside the contract's one that are far from the float model's: no goal judges them."""
    return tuple(
        f"output '{name}' of the {_called(scheme)} agrees with the {_reference(scheme)}'s to {agreement:.1%} only "
        "(1 - relative error): look at the error per layer; --min-agreement is judged on the contract's output alone"
        for name, agreement in quality.others.items()
        if not agreement >= OTHER_AGREEMENT
    )


def _lost_agreement(quality: Quality, goals: Goals, scheme: str) -> tuple[str, ...]:
    metrics = quality.metrics
    least = NOTABLE_AGREEMENT.get(quality.agreement_kind, OTHER_AGREEMENT)
    if goals.min_agreement is not None or metrics.agreement is None or metrics.agreement >= least:
        return ()
    return (
        f"the {_called(scheme)} agrees with the {_reference(scheme)} on {metrics.agreement:.1%} only "
        f"({metrics.n} samples): look at the error per layer, or say what is enough with --min-agreement",
    )


def _lost_accuracy(quality: Quality, goals: Goals, scheme: str) -> tuple[str, ...]:
    """A drop counts when it is above NOTABLE_DROP and above twice its standard error, sqrt((1 - agreement) / n): only
    samples that are answered differently can make it."""
    metrics = quality.metrics
    if metrics.metric == "agreement" or quality.guessing or goals.max_drop is not None:
        return ()
    if metrics.float_ is None or metrics.this is None:
        return ()
    drop = metrics.float_ - metrics.this
    differing = 1 - (metrics.agreement if metrics.agreement is not None else 0.0)
    if drop <= max(NOTABLE_DROP, 2 * math.sqrt(differing / metrics.n)):
        return ()
    return (
        f"the {_called(scheme)} loses {drop * 100:.1f} pt of {metrics.metric} ({metrics.float_:.1%} to "
        f"{metrics.this:.1%}, {metrics.n} samples): see the error per layer, or say what is allowed with --max-drop",
    )
