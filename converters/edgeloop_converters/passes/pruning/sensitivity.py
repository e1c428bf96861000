"""What a group's width costs at the model's output, measured: it alone narrowed, all layers behind it refitted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeloop.progress import Progress, SilentProgress
from edgeloop_converters.passes.figures import macs, output_error, outputs
from edgeloop_converters.passes.patches import LAYERS
from edgeloop_converters.passes.pruning.refit import refit
from edgeloop_converters.passes.pruning.scores import Evidence
from edgeloop_converters.passes.pruning.slicing import kept_channels, kept_classes, slice_channels
from edgeloop_converters.passes.pruning.widths import Ranking, options

SHARES = (7 / 8, 5 / 8, 3 / 8, 1 / 8)
SAMPLES, ROWS = 256, 8000
"""Half of the samples refit, the other half judges."""
_MOST_SECONDS, _OPENING_S, _MACS_PER_S = 150, 0.06, 2e10
"""CPU time of measuring, as found on x86 for nets of 12 and 76 million multiply-accumulates: 22 s and 90 s."""


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
    wanted = outputs(evidence.graph, judging, evidence.threads)
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
                        evidence.graph,
                        narrow,
                        kept,
                        refitting,
                        rows=ROWS,
                        seed=seed,
                        threads=evidence.threads,
                        pairs=False,
                    )
                    error = output_error(wanted, outputs(fitted, judging, evidence.threads))
                    known[width] = max(*known.values(), float(np.nan_to_num(error, nan=np.inf)))
                advance(1)
            widths = sorted(known)
            losses = [known[width] for width in widths]
            found[name] = {width: float(np.interp(width, widths, losses)) for width in every if width >= widths[0]}
    return found
