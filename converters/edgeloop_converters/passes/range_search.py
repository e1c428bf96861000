"""Activation ranges by their effect on the answers: coordinate descent, one end of one range at a time.

A range that cuts rare values gives all others finer steps. Which trade is right depends on what the rest of the model
makes of it, so the candidates are judged by the outputs, not by the tensor's own error (as MSE or entropy methods do).
A candidate is taken only where it is better by more than chance: among hundreds of them some are so on few samples.
Layer-wise relatives: Nahshan et al. 2021, "Loss Aware Post-training Quantization".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgeloop.progress import Progress, SilentProgress
from edgeloop_converters.passes.packed import Group, PackedModel, Range
from edgeloop_converters.passes.report import PassReport

Doubles = npt.NDArray[np.float64]

NARROWER, WIDER = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6), (1.05, 1.15)
PATIENCE = 2
"""Candidates in a row that are no better before a direction is given up."""
NAME = "range search"


class Objective(Protocol):
    """What to make smaller: the mean over the samples of these errors, [samples]."""

    def per_sample(self, model: PackedModel) -> Doubles: ...

    def with_range(self, model: PackedModel, group: Group) -> Callable[[Range], Doubles]: ...


def search_ranges(
    model: PackedModel,
    objective: Objective,
    *,
    deadline_s: float = float("inf"),
    progress: Progress | None = None,
) -> PassReport:
    """Change the ranges of `model` in place so that the mean of `objective` falls; it never rises.

    deadline_s: on `time.monotonic`'s clock; the search stops there with what it has.
    """
    started = time.monotonic()
    best = first = objective.per_sample(model)
    tried, changed, done = 1, 0, 0
    with (progress or SilentProgress()).step("searching ranges", total=len(model.groups)) as advance:
        for group in model.groups:
            if time.monotonic() > deadline_s:
                break
            original = model.range_of(group)
            error_of = objective.with_range(model, group)
            for end in (0, 1):
                base = keep = model.range_of(group)
                if base[end] == 0:
                    continue
                before = best
                for factors in (NARROWER, WIDER):
                    misses = 0
                    for factor in factors:
                        candidate = (base[0] * factor, base[1]) if end == 0 else (base[0], base[1] * factor)
                        errors = error_of(candidate)
                        tried += 1
                        misses = 0 if errors.mean() < best.mean() else misses + 1
                        if misses == 0 and is_lower(before, errors):
                            best, keep = errors, candidate
                        elif misses == PATIENCE:
                            break
                    if keep != base:
                        break
                model.set_range(group, keep)
            changed += model.range_of(group) != original
            done += 1
            advance(1)
    left = f", {len(model.groups) - done} not looked at for want of time" if done < len(model.groups) else ""
    return PassReport(
        NAME,
        f"{changed} of {len(model.groups)} ranges changed, {tried} candidates{left}",
        time.monotonic() - started,
        {"output_error": float(first.mean()) ** 2},
        {"output_error": float(best.mean()) ** 2},
    )


def is_lower(before: Doubles, after: Doubles) -> bool:
    """Whether paired errors [samples] fall by more than a standard error of their mean difference."""
    change = after - before
    return bool(change.mean() < -change.std() / np.sqrt(change.size))
