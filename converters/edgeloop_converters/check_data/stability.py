"""Do activation ranges still move with more samples, and does a single sample make them? From the calibration loop's
rows: (min, max) of every tensor for every sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop_converters.calibration import GROUP_SIZE
from edgeloop_converters.check_data.finding import NOTE, WARNING, Finding

MORE_SAMPLES = 64
CHANGE = 0.10
_DRAWS = 12
_MANY = 0.25
_ALONE = 0.5
_MANY_ALONE = 0.25
_MAX_ROWS = 2048
_MIN_ROWS = 16

Rows = npt.NDArray[np.float64]


@dataclass
class RangeRows:
    """Collects rows from `calibrate(on_sample=rows.add)`; at most 2048 of them."""

    names: tuple[str, ...] = ()
    rows: list[Rows] = field(default_factory=list)

    def add(self, names: Sequence[str], row: Rows) -> None:
        """row: [tensors, 2]."""
        self.names = self.names or tuple(names)
        if len(self.rows) < _MAX_ROWS:
            self.rows.append(row.copy())

    def stacked(self) -> Rows:
        """[samples, tensors, 2]."""
        return np.stack(self.rows) if self.rows else np.zeros((0, len(self.names), 2))


def stability_findings(
    rows: RangeRows,
    method: str = "grouped",
    describe: Callable[[int], str] = str,
    *,
    available: int | None = None,
    seed: int = 0,
) -> list[Finding]:
    """describe: names the calibration sample at a position, for the text. available: samples there are in all."""
    extremes = rows.stacked()
    if len(extremes) < _MIN_ROWS:
        return []
    more = f"calibrate on more than {len(extremes)} samples"
    if available is not None and available >= 2 * len(extremes):
        more = f"{more}: --calibration-samples {2 * len(extremes)}"
    return [*_unstable(extremes, rows.names, method, seed, more), *_alone(extremes, describe)]


def span_changes(extremes: Rows, fewer: int, method: str, *, seed: int = 0) -> npt.NDArray[np.float64]:
    """[tensors]: by how much of its width a range changes when `fewer` samples become all of them, as the median over
    random draws. extremes: [samples, tensors, 2]."""
    full = _ranges(extremes, method)
    width = np.maximum(full[:, 1] - full[:, 0], 1e-12)
    random = np.random.default_rng(seed)
    changes = []
    for _ in range(_DRAWS):
        order = random.permutation(len(extremes))
        changes.append(np.abs(_ranges(extremes[order[:fewer]], method) - full).max(axis=1) / width)
    return np.asarray(np.quantile(changes, 0.5, axis=0))


def _ranges(extremes: Rows, method: str) -> Rows:
    """[tensors, 2] as `calibrate` makes them of these samples."""
    groups = 1 if method == "min-max" else max(1, round(len(extremes) / GROUP_SIZE))
    parts = [extremes[i::groups] for i in range(groups)]
    each = np.stack([np.stack([p[..., 0].min(axis=0), p[..., 1].max(axis=0)], axis=1) for p in parts])
    return np.asarray(np.average(each, axis=0, weights=[len(p) for p in parts]))


def _unstable(extremes: Rows, names: Sequence[str], method: str, seed: int, fix: str) -> list[Finding]:
    more = min(MORE_SAMPLES, len(extremes) // 2)
    changes = span_changes(extremes, len(extremes) - more, method, seed=seed)
    moved = np.flatnonzero(changes > CHANGE)
    if not len(moved):
        return []
    worst = int(changes.argmax())
    numbers: dict[str, Any] = {
        "ranges": len(moved),
        "of": len(changes),
        "more_samples": more,
        "largest_change": float(changes[worst]),
    }
    return [
        Finding(
            "stability",
            WARNING if len(moved) > _MANY * len(changes) else NOTE,
            f"{more} more samples would change {len(moved)} of {len(changes)} ranges by > {CHANGE:.0%} (the most, by "
            f"{changes[worst]:.0%}, '{names[worst][:80]}')",
            fix,
            numbers,
        )
    ]


def _alone(extremes: Rows, describe: Callable[[int], str]) -> list[Finding]:
    """One sample that widens many ranges far beyond what all others need."""
    low, high = extremes[..., 0], extremes[..., 1]
    second_low, second_high = np.partition(low, 1, axis=0)[1], np.partition(high, -2, axis=0)[-2]
    width = np.maximum(second_high - second_low, 1e-12)
    # [samples, tensors]: how much wider this sample alone makes each range; zero for all but the extreme ones.
    wider = np.maximum((second_low - low) / width, (high - second_high) / width)
    share = (wider > _ALONE).mean(axis=1)
    alone = np.flatnonzero(share > _MANY_ALONE)
    if not len(alone):
        return []
    worst = int(share.argmax())
    return [
        Finding(
            "outliers",
            WARNING,
            f"{describe(worst)} alone widens {share[worst]:.0%} of all ranges by more than {_ALONE:.0%}"
            + (f" ({len(alone) - 1} more samples do so too)" if len(alone) > 1 else ""),
            "look at it; leave it out if the device will not see such",
            {"count": len(alone), "share": float(share[worst])},
        )
    ]
