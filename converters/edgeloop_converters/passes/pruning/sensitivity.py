"""What a group's width costs at the model's output, measured: it alone narrowed, all layers behind it refitted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeloop.progress import Progress, SilentProgress
from edgeloop_converters.passes.figures import macs, output_error
from edgeloop_converters.passes.packed import score_names
from edgeloop_converters.passes.patches import LAYERS
from edgeloop_converters.passes.pruning.refit import Whole, refit
from edgeloop_converters.passes.pruning.scores import Evidence
from edgeloop_converters.passes.pruning.slicing import kept_channels, kept_classes, slice_channels
from edgeloop_converters.passes.pruning.walk import Walk
from edgeloop_converters.passes.pruning.widths import Ranking, options

SHARES = (7 / 8, 5 / 8, 3 / 8, 1 / 8)
SAMPLES, ROWS, ROUNDS = 256, 8000, 4
"""Half of the samples refit, the other half judges."""
_MOST_SECONDS, _OPENING_S, _MACS_PER_S = 150, 0.06, 2e10
"""CPU time of measuring when each layer ran its model from the input, 90 s for 76 million multiply-accumulates; now a
third of it."""


def is_affordable(evidence: Evidence, groups: int) -> bool:
    """Whether measuring takes a few minutes at most. Every layer of every trial is looked at in two models."""
    layers = sum(op.name in LAYERS for op in evidence.graph.main.ops)
    samples = min(len(evidence.samples), SAMPLES) / 2
    looks = groups * len(SHARES) * layers
    return looks * (_OPENING_S + samples * macs(evidence.graph) / _MACS_PER_S) <= _MOST_SECONDS


def output_losses(
    evidence: Evidence,
    rankings: Mapping[str, Ranking],
    tile: int,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, dict[int, float]]:
    """Name of a group -> width -> mean squared error of the outputs (before a softmax), as a share of their variance.

    Measured at a few widths, straight lines in between; never falls as a group gets narrower. Narrower than what was
    measured is no choice: losses rise faster there than any line through wider ones.
    """
    samples = evidence.samples[:: max(1, len(evidence.samples) // SAMPLES)][:SAMPLES]
    refitting, judging = samples[::2], samples[1::2] or samples
    whole, judged = Whole(evidence.graph, refitting, evidence.threads), Walk(evidence.graph, judging, evidence.threads)
    names = score_names(evidence.graph)
    layers = {op.inputs[0] for op in evidence.graph.main.ops if op.name in LAYERS}
    # What lies before the first layer that is narrowed is as it was.
    wanted = judged.stacked([*names, *(evidence.graph.main.tensors[i].name for i in sorted(layers))])[: len(names)]
    found: dict[str, dict[int, float]] = {}
    with (progress or SilentProgress()).step("measuring widths", total=len(rankings) * len(SHARES)) as advance:
        for name, ranking in rankings.items():
            every = options(ranking.width, tile, ranking.width - len(ranking.order))
            known = {ranking.width: 0.0}
            for share in SHARES:
                width = min(every, key=lambda w: abs(w - share * ranking.width))
                if width not in known:
                    stay = kept_classes(evidence.channels, {name: ranking.kept(width)})
                    narrow = slice_channels(evidence.graph, evidence.channels, stay)
                    kept = kept_channels(evidence.graph, evidence.channels, stay)
                    fitted, _ = refit(
                        evidence.graph, narrow, kept, refitting, rows=ROWS, seed=seed, threads=evidence.threads,
                        pairs=False, whole=whole, rounds=ROUNDS,
                    )  # fmt: skip
                    error = output_error(wanted, judged.fork(fitted).stacked(names))
                    known[width] = max(*known.values(), float(np.nan_to_num(error, nan=np.inf)))
                advance(1)
            widths = sorted(known)
            losses = [known[width] for width in widths]
            found[name] = {width: float(np.interp(width, widths, losses)) for width in every if width >= widths[0]}
    return found
