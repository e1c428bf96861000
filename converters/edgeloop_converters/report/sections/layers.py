"""Layer by layer: the error of every op's output, and what its tensor holds against what its codes can say."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from math import log2

from edgeloop_converters.report.charts import Bar, RangeRow, bar_chart, range_chart
from edgeloop_converters.report.html import Markup, folded, section, soft, table, tag
from edgeloop_converters.report.words import Values, number

LOW_SNR_DB = 10.0
_GOOD_SNR_DB = 20.0
_EXACT_DB = 120.0
"""Of a tensor that is as good as the float model's: an op that stayed float, or moves data only."""
_LONGEST_DB = 60.0
"""Where bars end: exact outputs would leave no room for the differences that matter."""
_MAX_ROWS = 80
_SATURATES = 0.001
_STICKS_OUT = 0.02
"""A tensor saturates when more than so many values, and more than this share of its range, lie outside: a softmax,
whose scale is fixed at 1/256, does not."""


def below_softmax(per_op: Sequence[Values], found: Sequence[Values]) -> frozenset[int]:
    """Ops right before a softmax whose output is cut at the lower end only, while the softmax comes out well.

    An int8 softmax shows nothing of logits far below the largest, so cutting them (softmax floor) is no loss.
    """
    limits = {r.get("index"): r for r in found if None not in (r.get("float_max"), r.get("quantized_max"))}
    harmless = set()
    for before, softmax in itertools.pairwise(per_op):
        one = limits.get(before.get("index"))
        if softmax.get("name") != "SOFTMAX" or one is None or (softmax.get("snr_db") or 0) < _GOOD_SNR_DB:
            continue
        if one["float_max"] <= one["quantized_max"] + _STICKS_OUT * (one["quantized_max"] - one["quantized_min"]):
            harmless.add(int(before["index"]))
    return frozenset(harmless)


def errors(per_op: Sequence[Values], cut: Collection[int] = ()) -> Markup | None:
    """cut: as `below_softmax` has it; these are not marked."""
    known = [o for o in per_op if o.get("snr_db") is not None]
    if not known:
        return None
    shown, note = known, ""
    if len(shown) > _MAX_ROWS:
        shown = sorted(sorted(shown, key=lambda o: o["snr_db"])[:_MAX_ROWS], key=lambda o: o["index"])
        note = f" The {_MAX_ROWS} worst of {len(known)} tensors."
    bars = [
        Bar(
            f"{o['index']} {o['name']}",
            min(float(o["snr_db"]), _LONGEST_DB),
            _decibels(o),
            f"{o['output']}: SNR {o['snr_db']:.2f} dB, MSE {number(o['mse'])}, largest error {number(o['max_abs'])}",
            o["snr_db"] < LOW_SNR_DB and o["index"] not in cut,
        )
        for o in shown
    ]
    mark = LOW_SNR_DB if any(b.is_bad for b in bars) else None
    rows = [
        [
            f"{o['index']} {o['name']}",
            _decibels(o),
            number(o["mse"]),
            number(o["max_abs"]),
            _name(o["output"]),
        ]
        for o in shown
    ]
    return section(
        "errors",
        "Error per layer",
        tag("figure", bar_chart("signal-to-noise ratio of each op's output", bars, mark=mark)),
        soft(
            "Signal-to-noise ratio of each op's output against the float model: longer is better; errors of earlier "
            f"ops are contained in later ones. Below {LOW_SNR_DB:g} dB is marked; bars end at {_LONGEST_DB:g} dB."
            f"{note}{_of_cuts(known, cut)}{_of_softmax(known, cut)}"
        ),
        folded("The same as a table", table(["op", "SNR", "mean squared error", "largest error", "tensor"], rows)),
    )


def _of_cuts(known: Sequence[Values], cut: Collection[int]) -> str:
    low = [f"op {o['index']}" for o in known if o["index"] in cut and o["snr_db"] < LOW_SNR_DB]
    if not low:
        return ""
    return f" {' and '.join(low)} is cut below what the softmax after it shows, which loses nothing."


def softened(per_op: Sequence[Values]) -> dict[int, tuple[float, float]]:
    """Index of each op right before a softmax that comes out well and much better: both ratios in dB."""
    known = [(o, s) for o, s in itertools.pairwise(per_op) if None not in (o.get("snr_db"), s.get("snr_db"))]
    return {
        int(logits["index"]): (logits["snr_db"], softmax["snr_db"])
        for logits, softmax in known
        if softmax.get("name") == "SOFTMAX" and softmax["snr_db"] >= max(_GOOD_SNR_DB, 2 * logits["snr_db"])
    }


def _of_softmax(known: Sequence[Values], cut: Collection[int]) -> str:
    return "".join(
        f" Op {index} has {low:.1f} dB only; the softmax after it, which is what counts, has {high:.1f} dB: "
        "logits that an int8 softmax can hardly show may be cut."
        for index, (low, high) in softened(known).items()
        if index not in cut
    )


def _decibels(op: Values) -> str:
    return "exact" if op["snr_db"] >= _EXACT_DB else f"{op['snr_db']:.1f} dB"


def ranges(
    found: Sequence[Values], cut: Collection[int] = (), soft_after: Mapping[int, tuple[float, float]] | None = None
) -> Markup | None:
    """cut: as `below_softmax` has it; these do not count as saturating. soft_after: as `softened` has it."""
    known = [r for r in found if None not in (r.get("float_min"), r.get("quantized_min"))]
    if not known:
        return None
    shown, note = known, ""
    if len(shown) > _MAX_ROWS:
        worst = {id(r) for r in sorted(known, key=lambda r: -r["clipped"])[:_MAX_ROWS]}
        shown = [r for r in known if id(r) in worst]
        note = f" The {_MAX_ROWS} of {len(known)} tensors that saturate most."
    bad = [r for r in known if saturates(r) and r.get("index") not in cut]
    told = f"{len(bad)} of {len(known)} tensors saturate" if bad else f"none of {len(known)} tensors saturates"
    rows = [
        RangeRow(
            _op(r), (r["float_min"], r["float_max"]), (r["quantized_min"], r["quantized_max"]),
            _shown(r, cut, soft_after or {}),
            f"{r['tensor']}: holds {number(r['float_min'])} to {number(r['float_max'])}, codes reach "
            f"{number(r['quantized_min'])} to {number(r['quantized_max'])}", r in bad,
        )
        for r in shown
    ]  # fmt: skip
    cells = [
        [_op(r), *_ends(r["float_min"], r["float_max"]),
         *_ends(r["quantized_min"], r["quantized_max"]), _clipped(r), f"{_unused_bits(r):.1f}", _name(r["tensor"])]
        for r in shown
    ]  # fmt: skip
    head = ["op", "float min", "float max", "codes from", "to", "outside", "bits unused", "tensor"]
    return section(
        "ranges",
        "Range per layer",
        tag("p", f"On the samples of the error per layer {told}."),
        tag("figure", range_chart("what tensors hold against what their codes reach", rows)),
        soft(
            tag("span", class_="key reach"), " what the codes reach  ",
            tag("span", class_="key held"), " what the float model holds  ",
            tag("span", class_="key outside"), " outside: saturates. ",
            "Every row has a scale of its own; the tick is 0. A tensor is marked when more than 0.1 % of its values "
            "and 2 % of its range are outside; a refinement does that on purpose where it lowers the error. "
            f"A broad bar with a short line gives away resolution.{note}",
        ),
        folded("The same as a table", table(head, cells)),
    )  # fmt: skip


def saturates(one: Values) -> bool:
    """Whether so much is outside that it is worth a look."""
    span = max(1e-30, one["quantized_max"] - one["quantized_min"])
    out = max(one["quantized_min"] - one["float_min"], one["float_max"] - one["quantized_max"])
    return bool(one["clipped"] > _SATURATES and out > _STICKS_OUT * span)


def _op(one: Values) -> str:
    return str(one["name"]) if one.get("index") is None else f"{one['index']} {one['name']}"


def _shown(one: Values, cut: Collection[int], soft_after: Mapping[int, tuple[float, float]]) -> str:
    if saturates(one) and one.get("index") in cut:
        return f"{_clipped(one)} below what the softmax shows"
    if saturates(one) and one.get("index") in soft_after:
        return f"{_clipped(one)} outside, after the softmax {soft_after[one['index']][1]:.0f} dB"
    if saturates(one):
        return f"{_clipped(one)} outside"
    return " … ".join(_ends(one["float_min"], one["float_max"]))


def _ends(low: float, high: float) -> tuple[str, str]:
    """Both ends of a range; what is nothing beside the other end is 0."""
    nothing = 1e-4 * max(abs(low), abs(high))
    return ("0" if abs(low) < nothing else number(low)), ("0" if abs(high) < nothing else number(high))


def _clipped(one: Values) -> str:
    return f"{one['clipped'] * 100:.2g} %"


def _unused_bits(one: Values) -> float:
    held = min(one["float_max"], one["quantized_max"]) - max(one["float_min"], one["quantized_min"])
    reach = one["quantized_max"] - one["quantized_min"]
    return max(0.0, log2(reach / held)) if reach > 0 and held > 0 else 0.0


def _name(tensor: object) -> str:
    """Of a fused name, "a;b;c", the first part."""
    return str(tensor).split(";", 1)[0]
