"""What to try after a goal was missed. Pure; the gate says what was missed, this says what to do."""

from __future__ import annotations

import math
import shlex

from edgeloop.bundle import Metrics
from edgeloop.targets import load_target
from edgeloop_converters.goals import Goals
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.schemes import scheme_named

_MANY_TO_CALIBRATE = 1024
_NEARER = {"int8": "weight-only", "int4": "int8", "int8-compact": "int8", "int8-per-tensor": "int8"}
"""By scheme, the one whose answers are nearer the float model's and which is not much larger."""


_SMALLER = {
    "float": "int8", "fp16": "int8", "a16w8": "int4", "weight-only": "int4", "dynamic": "int4", "int8": "int4",
    "int8-per-tensor": "int4", "int8-compact": "int4", "clustered": "int4", "mixed": "int4", "fixed-point": "int4",
}  # fmt: skip
"""By scheme, the one whose file is smaller, for a board that computes it."""


def too_fine(goals: Goals, metrics: Metrics) -> str:
    """Where a goal is finer than one of the samples that judge it: which, and what one weighs; else ""."""
    if metrics.n < 1:
        return ""
    one = 1 / metrics.n
    weighs = f"cannot be judged on {metrics.n} samples: one is {one * 100:.2g} pt"
    if goals.max_drop is not None and 0 < goals.max_drop < one:
        return f"a drop of {goals.max_drop * 100:g} pt {weighs}"
    if goals.min_agreement is not None and 0 < 1 - goals.min_agreement < one * (1 - 1e-9):
        return f"an agreement of {goals.min_agreement:.6g} {weighs}"
    return ""


def next_steps(
    recipe: Recipe, metrics: Metrics, *, model_bytes: int = 0, p95_ms: float | None = None, guesses: bool = False
) -> tuple[str, ...]:
    """For a variant that missed a goal: one thing to try a line, the likeliest first.

    () where no goal was set, or all are met. model_bytes: of the exported file. p95_ms: None where it was not judged.
    guesses: the model does no better than guessing, so that no scheme and no effort helps.
    """
    met = _within_reach(recipe.goals, metrics)
    return (
        *(_for_the_answers(recipe, metrics, met, guesses) if met else ()),
        *_for_the_size(recipe, model_bytes),
        *_for_the_latency(recipe, p95_ms),
    )


def _for_the_latency(recipe: Recipe, p95_ms: float | None) -> tuple[str, ...]:
    goal = recipe.goals.p95_ms
    if goal is None or p95_ms is None or p95_ms <= goal:
        return ()
    steps = ["--scheme int8: faster"] if recipe.scheme in ("float", "fp16", "weight-only", "int4", "a16w8") else []
    if _may_shrink(recipe):
        steps.append("--optimize latency: looks for a smaller model that answers as well")
    steps.append(
        f"edgeloop analyze {shlex.quote(recipe.source)} --target {shlex.quote(recipe.target)}: which ops cost most"
    )
    return (*steps, f"--p95-ms {math.ceil(p95_ms * 1000) / 1000:g}: what this file reaches")


def _may_shrink(recipe: Recipe) -> bool:
    """Whether --optimize is open to it and was not taken."""
    return recipe.scheme == "int8" and recipe.engine == "aeq" and len(recipe.shapes) < 2 and not recipe.optimize


def _for_the_size(recipe: Recipe, model_bytes: int) -> tuple[str, ...]:
    goal = recipe.goals.max_bytes
    if goal is None or model_bytes <= goal:
        return ()
    steps = []
    smaller = _SMALLER.get(recipe.scheme)
    if smaller is not None and _takes(recipe.target, smaller):
        steps.append(f"--scheme {smaller}: smaller, {'and faster' if smaller == 'int8' else 'but slower'}")
    if _may_shrink(recipe):
        steps.append("--optimize size: looks for a smaller model that answers as well")
    return (*steps, f"--max-bytes {model_bytes}: what this file has")


def _for_the_answers(recipe: Recipe, metrics: Metrics, met: str, guesses: bool) -> tuple[str, ...]:
    if guesses:
        data = shlex.quote(recipe.evaluation or recipe.data or "DATA")
        return (f"edgeloop check-data {shlex.quote(recipe.source)} --data {data}: no better than guessing",)
    steps = []
    fine = too_fine(recipe.goals, metrics)
    if fine:
        steps.append(f"more samples to evaluate on: {fine}")
    if not recipe.repair:
        steps.append("without --no-repair")
    if recipe.is_calibrated and recipe.effort != "best":
        steps.append("--effort best")
    if recipe.is_calibrated and recipe.calibration_samples < _MANY_TO_CALIBRATE:
        steps.append(f"--calibration-samples {_MANY_TO_CALIBRATE} (up to {recipe.calibration_samples} were used)")
    nearer = _NEARER.get(recipe.scheme)
    if nearer is not None and _takes(recipe.target, nearer):
        cost = "at int8's speed" if nearer == "int8" else "slower where the device computes in integers"
        steps.append(f"--scheme {nearer}: nearer the float model, {cost}")
    return (*steps, f"{met}: what this file reaches")


def _takes(target: str, scheme: str) -> bool:
    return scheme_named(scheme).edgetpu or not load_target(target).has_edgetpu


def _within_reach(goals: Goals, metrics: Metrics) -> str:
    """The flags that this file would have met, of goals that it missed."""
    flags = []
    if goals.max_drop is not None and metrics.float_ is not None and metrics.this is not None:
        drop = metrics.float_ - metrics.this
        if drop > goals.max_drop + 1e-9:
            flags.append(f"--max-drop {math.ceil(drop * 1000 - 1e-6) / 10:g}pt")
    wanted, reached = goals.min_agreement, metrics.agreement
    if wanted is not None and reached is not None and reached < wanted - 1e-9:
        flags.append(f"--min-agreement {math.floor(reached * 1000 + 1e-6) / 1000:g}")
    return " ".join(flags)
