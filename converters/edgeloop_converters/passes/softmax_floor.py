"""The range of a softmax's input, cut where its int8 output shows nothing any more.

An int8 softmax has steps of 1/256, so a class that lies ln(512) below the top one comes out as 0. How far below it lies
is then of no interest, and codes spent there are missing at the top, where two classes with one code are a tie.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from edgeloop.graph.parts import cut
from edgeloop_converters.passes.objective import visible_depths
from edgeloop_converters.passes.packed import PackedModel, run_real
from edgeloop_converters.passes.report import PassReport

Array = npt.NDArray[Any]

NAME = "softmax floor"
MARGIN = 1.5
"""Times what is visible: samples never seen may have a smaller top value than any that were."""


def floor_softmax_inputs(model: PackedModel, samples: Sequence[Sequence[Array]], threads: int = 1) -> PassReport:
    """Raise the lower end of the range of every softmax's input that is free, in place.

    The new end is what is visible below the smallest top value over the samples (float model), with a margin, so that
    no sample's classes that matter are cut.
    """
    started = time.monotonic()
    depths = visible_depths(model.float_graph)
    details = []
    for group in model.groups:
        if group.name not in depths or len(group.members) > 1:
            continue
        tops = run_real(cut(model.float_graph, [group.name]), samples, threads)[0].max(axis=-1)
        low, high = model.range_of(group)
        floor = min(float(tops.min()) - MARGIN * depths[group.name], -1e-6)
        if low < floor < high:
            model.set_range(group, (floor, high))
            details.append(f"lower end {low:.4g} -> {floor:.4g}")
    return PassReport(NAME, ", ".join(details) or "nothing to cut", time.monotonic() - started)
