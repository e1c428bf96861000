"""Offers and what became of them, for people and for --json."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgeloop.release.channel import BUNDLE, Channel, Offer

if TYPE_CHECKING:
    from edgeloop.deploy.release.rollout import Progress

_WIDEST = 100
_MOST_DEVICES = 20
"""Lines about devices below an offer; --json has all."""
_HEADS = (
    "", "state", "for", "now", "trial", "committed", "runs", "back", "refused", "failed", "waiting", "p95 ms", "n",
)  # fmt: skip
_RUNS = _HEADS.index("runs")

Shown = Sequence[tuple[Offer, "Progress | None"]]
"""Offers with what became of them, where telemetry was asked."""


def offer_dict(offer: Offer) -> dict[str, Any]:
    """Stable keys."""
    keys = (
        "kind",
        "name",
        "version",
        "state",
        "reason",
        "percent",
        "sha256",
        "bytes",
        "for_target",
        "p95_ms",
        "since_s",
    )
    values = {key: getattr(offer, key) for key in keys}
    deltas = [{"from_sha256": d.from_sha256, "bytes": d.bytes} for d in offer.deltas]
    return {**values, "tags": list(offer.tags), "deltas": deltas}


def progress_dict(progress: Progress) -> dict[str, Any]:
    """Stable keys."""
    return {
        "counts": {**progress.counts, "waiting": len(progress.waiting)},
        "now": progress.now,
        "measured_p95_ms": progress.p95_ms,
        "n": progress.n,
        "devices": [vars(device) for device in progress.devices],
        "waiting": list(progress.waiting),
    }


def offer_line(offer: Offer) -> str:
    """One offer in one line."""
    budget = f", p95 <= {offer.p95_ms:g} ms" if offer.p95_ms is not None else ""
    why = f": {offer.reason}" if offer.reason else ""
    whom = f"{offer.percent:g} % of {offer.for_target or 'all'}{_tags_text(offer)}"
    return f"{_named(offer)} version {offer.version} for {whom}{budget}, {size_text(offer.bytes)}  {offer.state}{why}"


def _named(offer: Offer) -> str:
    return offer.name if offer.kind == BUNDLE else f"{offer.kind} {offer.name}"


def _tags_text(offer: Offer) -> str:
    return f" with {' or '.join(offer.tags)}" if offer.tags else ""


def size_text(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def channel_lines(channel: Channel, shown: Shown) -> list[str]:
    """A channel's table: a line for each offer, below it why it was stopped and which devices have trouble."""
    title = f"{channel.channel}  (serial {channel.serial})"
    if all(progress is None for _, progress in shown):
        return [title, *(f"  {offer_line(offer)}" for offer, _ in shown)]
    rows = [_HEADS, *(_row(offer, progress) for offer, progress in shown)]
    if all(row[_RUNS] in ("-", "") for row in rows[1:]):  # as long as every device said how it came
        rows = [(*row[:_RUNS], *row[_RUNS + 1 :]) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [title]
    for row, below in zip(rows, [[], *(_below(*each) for each in shown)], strict=True):
        cells = [cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        lines += ["  " + "  ".join(cells).rstrip(), *(part for line in below for part in _wrapped(line))]
    return lines


def _wrapped(line: str) -> list[str]:
    """Below an offer; what a device said may be long."""
    columns = max(60, min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns))
    return textwrap.wrap(line, columns, initial_indent=" " * 6, subsequent_indent=" " * 8)


def _row(offer: Offer, progress: Progress | None) -> tuple[str, ...]:
    begin = (f"{_named(offer)} {offer.version}", offer.state, f"{offer.percent:g} %{_tags_text(offer)}")
    if progress is None:
        return (*begin, *[""] * (len(_HEADS) - len(begin)))
    counts = [str(count or "-") for count in (progress.now, *progress.counts.values(), len(progress.waiting))]
    p95 = "-" if progress.p95_ms is None else f"{progress.p95_ms:.3g}"
    budget = f" of {offer.p95_ms:g}" if offer.p95_ms is not None else ""
    return (*begin, *counts, p95 + budget, str(progress.n or "-"))


def _below(offer: Offer, progress: Progress | None) -> list[str]:
    from edgeloop.release.events import FAILED, REFUSED, ROLLED_BACK

    lines = [offer.reason] if offer.reason else []
    devices = () if progress is None else progress.devices
    trouble = [device for device in devices if device.state in (ROLLED_BACK, REFUSED, FAILED)]
    lines += [f"{device.device}: {device.state}: {device.reason}" for device in trouble[:_MOST_DEVICES]]
    left = len(trouble) - _MOST_DEVICES
    return [*lines, f"... and {left} more devices: --json"] if left > 0 else lines
