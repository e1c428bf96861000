"""Structured pruning carried out: channels taken out, and what is left made to answer for them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop.progress import Progress
from edgeloop_converters.passes.figures import Cost, macs, output_error, outputs
from edgeloop_converters.passes.pruning.channels import Channels
from edgeloop_converters.passes.pruning.consumers import LINEAR, column_classes, matrix_of, put_matrix
from edgeloop_converters.passes.pruning.plan import PrunePlan, channels_of
from edgeloop_converters.passes.pruning.refit import ROWS, own_constants, refit
from edgeloop_converters.passes.pruning.scores import Array, Gradients
from edgeloop_converters.passes.pruning.slicing import kept_channels, kept_classes, slice_channels
from edgeloop_converters.passes.pruning.survey import plan_prune
from edgeloop_converters.passes.report import PassReport
from edgeloop_converters.passes.samples import Given, as_samples

NAME = "prune"
_JUDGES = 256


def prune(
    graph: Graph,
    *,
    samples: Given = (),
    amount: float | None = None,
    threshold: float | None = None,
    goal: float | None = None,
    widths: Mapping[str, int] | None = None,
    score: str = "",
    tile: int = 1,
    cost: Cost = macs,
    gradients: Gradients | None = None,
    labels: Array | None = None,
    keep: Sequence[str] = (),
    repair: bool = True,
    rows: int = ROWS,
    progress: Progress | None = None,
    seed: int = 0,
    threads: int = 1,
) -> tuple[Graph, PassReport]:
    """`plan_prune`, then `apply_prune`. score: "" is "reconstruction" with samples, else "l1".

    samples: float inputs, one array [1, ...] per model input, or an array [samples, ...] of a model's one input;
    labels are not needed, "taylor" takes them. Without samples nothing is repaired.
    """
    started, samples = time.monotonic(), as_samples(graph, samples)
    plan = plan_prune(
        graph, amount=amount, threshold=threshold, goal=goal, widths=widths, tile=tile, cost=cost, samples=samples,
        score=score or ("reconstruction" if samples else "l1"), gradients=gradients, labels=labels, keep=keep,
        seed=seed, threads=threads, progress=progress,
    )  # fmt: skip
    return apply_prune(
        graph, plan, samples=samples, repair=repair, rows=rows, progress=progress, seed=seed, threads=threads,
        started=started,
    )  # fmt: skip


def apply_prune(
    graph: Graph,
    plan: PrunePlan,
    *,
    samples: Given = (),
    repair: bool = True,
    pairs: bool = True,
    rows: int = ROWS,
    progress: Progress | None = None,
    seed: int = 0,
    threads: int = 1,
    started: float | None = None,
) -> tuple[Graph, PassReport]:
    """The pruned graph; `graph` stays as it is. repair: with samples, the layers behind are refitted (`refit`, with
    its `pairs`). Raises UsageError where the plan was made for another model.
    """
    began, samples = time.monotonic() if started is None else started, as_samples(graph, samples)
    channels = channels_of(graph, plan)
    stay = kept_classes(channels, plan.kept)
    smaller = slice_channels(*_merged(graph, channels, plan), stay)
    done = f"{sum(g.width - len(g.kept) for g in plan.groups)} of {sum(g.width for g in plan.groups)} channels removed"
    before, after = dict(plan.before), dict(plan.after)
    if samples:
        if repair:
            kept = kept_channels(graph, channels, stay)
            smaller, count = refit(
                graph, smaller, kept, samples, rows=rows, seed=seed, threads=threads, progress=progress,
                pairs=pairs,
            )  # fmt: skip
            done += f", {count} layers refitted on {len(samples)} samples"
        judges = samples[-_JUDGES:]
        before["output_error"] = 0.0
        after["output_error"] = output_error(outputs(graph, judges, threads), outputs(smaller, judges, threads))
    return smaller, PassReport(NAME, f"{done}, by {plan.score}", time.monotonic() - began, before, after)


def _merged(graph: Graph, channels: Channels, plan: PrunePlan) -> tuple[Graph, Channels]:
    """Readers' columns of channels that go are added to those of the channels that take over."""
    if not any(group.merges for group in plan.groups):
        return graph, channels
    fresh = own_constants(graph)
    for planned in plan.groups:
        group = channels.group(planned.name)
        for i in (i for i in group.consumers if graph.main.ops[i].name in LINEAR):
            op = fresh.main.ops[i]
            columns = column_classes(graph, channels, graph.main.ops[i])
            matrix = matrix_of(fresh, op)
            for merge in planned.merges:
                gone = np.flatnonzero(columns == group.classes[merge.gone])
                into = np.flatnonzero(columns == group.classes[merge.into])
                if gone.size != into.size:
                    raise UsageError(f"channels of '{planned.name}' are not read alike: they cannot be merged")
                matrix[into] += merge.slope * matrix[gone]
                matrix[-1] += merge.shift * matrix[gone].sum(axis=0)
            put_matrix(fresh, op, matrix)
    return fresh, _with_copies(channels, graph, fresh)


def _with_copies(channels: Channels, graph: Graph, fresh: Graph) -> Channels:
    """Constants that layers no longer share follow the channels that the shared one did."""
    pairs = (zip(a.inputs, b.inputs, strict=True) for a, b in zip(graph.main.ops, fresh.main.ops, strict=True))
    copies = {new: old for pair in pairs for old, new in pair if old != new}
    followers = [replace(f, tensor=new) for new, old in copies.items() for f in channels.followers if f.tensor == old]
    return replace(channels, followers=(*channels.followers, *followers))
