"""Where every op is predicted to run, with the first one that stays off the accelerator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeloop_converters.report.charts import Cell, bullet, share_bar, strip_chart
from edgeloop_converters.report.charts.strip import KINDS
from edgeloop_converters.report.html import Markup, columns_in_use, definitions, folded, join, section, soft, tag
from edgeloop_converters.report.words import Values, count, size

_NAMES = {
    "edgetpu": "Edge TPU",
    "xnnpack": "XNNPACK",
    "gpu": "GPU",
    "cpu": "plain CPU kernels",
    "other": "another delegate",
}
_LETTERS = {"edgetpu": "T", "xnnpack": "X", "gpu": "G", "cpu": "C", "other": "?"}
_MAX_LABEL = 110
_MAX_ROWS = 200


def placement(analysis: Values | None, target: object) -> Markup | None:
    ops: Sequence[Values] = (analysis or {}).get("ops") or ()
    if not analysis or not ops:
        return None
    delegates: Values = analysis.get("delegates") or {}
    best = next(iter(delegates), "xnnpack")
    cells = [Cell(_kind(op), _LETTERS[_kind(op)], _hover(op)) for op in ops]
    return section(
        "placement",
        "Where the ops run",
        tag("p", _sentence(ops, delegates, best, target)),
        tag(
            "figure",
            strip_chart("ops in their order, by where they run", cells, _labels(ops, delegates, best)),
        ),
        _legend(ops),
        *_work(ops),
        _facts(delegates.get(str(best)) or {}),
        _off(ops, best),
    )


def _kind(op: Values) -> str:
    where = str(op.get("placement"))
    return where if where in KINDS else "other"


def _named(where: object) -> str:
    return _NAMES.get(str(where), str(where))


def _reason(op: Values, best: object) -> str:
    """Why not on the best delegate, without what follows about the next ones."""
    return str(op.get("reason") or "").removeprefix(f"not {best}: ").partition("; not ")[0]


def _labels(ops: Sequence[Values], delegates: Values, best: object) -> dict[int, str]:
    """Of the first op that is not on the best delegate, and of the one that ends its program, where that is another."""
    labels = {}
    ends = ((delegates.get(str(best)) or {}).get("ends_at") or {}).get("index")
    first = next((i for i, op in enumerate(ops) if op.get("placement") != best), None)
    if isinstance(ends, int) and 0 <= ends < len(ops):
        labels[ends] = _label("its program ends at", ops[ends], best)
    if first is not None:
        labels[first] = _label(f"first not on {_named(best)}:", ops[first], best)
    return labels


def _label(why: str, op: Values, best: object) -> str:
    text = f"{why} op {op.get('index')} {op.get('name')}: {_reason(op, best)}"
    return text if len(text) <= _MAX_LABEL else text[: _MAX_LABEL - 1] + "…"


def _hover(op: Values) -> str:
    parts = [f"op {op.get('index')} {op.get('name')} on {_named(op.get('placement'))}"]
    if op.get("output"):
        parts.append("x".join(map(str, op["output"])))
    if op.get("macs"):
        parts.append(f"{count(op['macs'])} MACs")
    if op.get("reason"):
        parts.append(str(op["reason"]))
    return ", ".join(parts)


def _sentence(ops: Sequence[Values], delegates: Values, best: object, target: object) -> str:
    on = sum(op.get("placement") == best for op in ops)
    status = (delegates.get(str(best)) or {}).get("status", "predicted")
    where = f" of {target}" if target else ""
    if on == len(ops):
        return f"All {len(ops)} ops on {_named(best)}{where} ({status})."
    return f"{on} of {len(ops)} ops on {_named(best)}{where} ({status})."


def _legend(ops: Sequence[Values]) -> Markup:
    used = [kind for kind in KINDS if any(_kind(op) == kind for op in ops)]
    parts = []
    for kind in used:
        n = sum(_kind(op) == kind for op in ops)
        swatch = tag("span", _LETTERS[kind], class_=f"key swatch back-{kind}")
        parts.append(tag("span", swatch, f" {_NAMES[kind]}, {n} op{'s' if n != 1 else ''}"))
    return tag("p", parts, class_="soft legend")


def _work(ops: Sequence[Values]) -> list[Markup]:
    """The same by multiply-accumulates: one op off the accelerator may be nothing, or all of it."""
    total = sum(op.get("macs") or 0 for op in ops)
    if not total:
        return []
    shares = []
    for kind in KINDS:
        share = sum(op.get("macs") or 0 for op in ops if _kind(op) == kind) / total
        if share > 0:
            shares.append((kind, share, f"{_NAMES[kind]} {share:.1%}" if share < 1 else f"{_NAMES[kind]} 100 %"))
    chart = tag("figure", share_bar("share of the multiply-accumulates", shares))
    return [tag("h3", f"Share of the {count(total)} multiply-accumulates"), chart]


def _facts(plan: Values) -> Markup | None:
    """What the pre-flight found for the best delegate: memory on the chip, crossings, what to change."""
    pairs: list[tuple[object, object]] = []
    chip, used, streamed = (plan.get(key) for key in ("sram_bytes", "on_chip_bytes", "streamed_bytes"))
    if chip and used is not None:
        rest = streamed or 0
        picture = bullet("parameters against the memory on the chip", used + rest, chip, is_met=not rest)
        told = f"{size(used)} on the chip of {size(chip)}, {size(rest)} sent at every inference"
        pairs.append(("parameters", join(picture, told)))
    if plan.get("crossings"):
        parts = plan.get("partitions")
        pairs.append(
            ("crossings", f"{plan['crossings']} tensors between it and the CPU" + (f", {parts} parts" if parts else ""))
        )
    if plan.get("borders"):
        pairs.append(("conversions", f"{plan['borders']} between float and integer"))
    lists = [
        [tag("h3", title), tag("ul", (tag("li", _text_of(one)) for one in plan[key]))]
        for key, title in (
            ("rewrites", "What would change this"),
            ("warnings", "Warnings"),
            ("disagreements", "Where the compiler or the delegate disagreed"),
        )
        if plan.get(key)
    ]
    return join(definitions(pairs), lists) if pairs or lists else None


def _text_of(one: object) -> str:
    return str(one.get("text")) if isinstance(one, Mapping) else str(one)


def _off(ops: Sequence[Values], best: object) -> Markup | None:
    rows = [
        [
            f"{op.get('index')} {op.get('name')}",
            _named(op.get("placement")),
            _reason(op, best),
            count(op["macs"]) if op.get("macs") else "",
        ]
        for op in ops
        if op.get("placement") != best
    ]
    if not rows:
        return None
    cut = soft(f"The first {_MAX_ROWS} of {len(rows)}.") if len(rows) > _MAX_ROWS else None
    what = columns_in_use(["op", "runs on", f"not on {_named(best)} because", "MACs"], rows[:_MAX_ROWS])
    return folded(f"Ops that are not on {_named(best)} ({len(rows)})", join(what, cut), is_open=len(rows) <= 6)
