"""Two layers with an activation between them, fitted together: what least squares cannot reach.

Least squares gives the second layer its best weights for the channels that are left; the first one's filters are still
those that were made for a wider layer. Here both move, downhill on the same squared error, by L-BFGS (Liu and Nocedal
1989) on a few thousand unlabelled rows. A fifth of the rows judges, and what does not help there is not kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.graph import Graph, Op
from edgeloop_converters.passes.patches import Window, window_of
from edgeloop_converters.passes.pruning.seen import with_ones
from edgeloop_converters.passes.pruning.units import BOUNDS, Bounds, is_solvable

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

ROWS, ITERATIONS = 6000, 30
_MOST_VALUES = 40_000_000
_JUDGE_EVERY = 5


@dataclass(frozen=True)
class Pair:
    """Two convolutions; only `second` reads what `first` makes. bounds: of the activation between them."""

    first: Op
    second: Op
    bounds: Bounds
    windows: tuple[Window, Window]
    rows: int

    def patches(self, image: Floats, positions: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
        """What `first` sees wherever `second` looks: ([positions, taps, columns], inside [positions, taps]: 1, or 0
        where a tap lies in the padding). image: `first`'s input [H, W, C]; positions: of `second`'s output.
        """
        first, second = self.windows
        y, x = np.divmod(positions, second.output[1])
        down = (y * second.stride[0] - second.before[0])[:, None] + np.arange(second.kernel[0]) * second.dilation[0]
        across = (x * second.stride[1] - second.before[1])[:, None] + np.arange(second.kernel[1]) * second.dilation[1]
        height, width = first.output
        inside = ((down >= 0) & (down < height))[:, :, None] & ((across >= 0) & (across < width))[:, None, :]
        at = np.clip(down, 0, height - 1)[:, :, None] * width + np.clip(across, 0, width - 1)[:, None, :]
        rows = first.rows(image, at.ravel()).reshape(len(positions), inside[0].size, -1)
        return np.asarray(rows, np.float32), inside.reshape(len(positions), -1).astype(np.float32)


def find_pair(graph: Graph, second: Op) -> Pair | None:
    """The pair that ends in a layer, where there is one."""
    main = graph.main
    if second.name != "CONV_2D":
        return None
    index = second.inputs[0]
    first = next((op for op in main.ops if index in op.outputs), None)
    uses = sum(op.inputs.count(index) for op in main.ops) + main.outputs.count(index)
    if first is None or first.name != "CONV_2D" or uses != 1 or not is_solvable(graph, first):
        return None
    bounds = BOUNDS.get(first.option("fusedActivationFunction"))
    if bounds is None or bounds == BOUNDS[0]:
        return None
    windows = window_of(graph, first), window_of(graph, second)
    columns = int(np.prod(main.tensors[first.inputs[1]].shape[1:]))
    taps = windows[1].kernel[0] * windows[1].kernel[1]
    return Pair(first, second, bounds, windows, min(ROWS, _MOST_VALUES // (taps * columns)))


def nearest_goal(got: Floats, wanted: Floats, low: Array, high: Array) -> Floats:
    """What to aim at where only values between `low` and `high` come through: beyond them, the border is enough, and
    who is beyond already may stay.
    """
    below, above = wanted <= low, wanted >= high
    goal = np.where(below, np.minimum(got, low), np.where(above, np.maximum(got, high), wanted))
    return np.asarray(goal, np.float32)


def refine(
    patches: Floats,
    inside: Floats,
    matrices: tuple[Doubles, Doubles],
    bounds: Bounds,
    wanted: Floats,
    offset: Floats,
    outer: Bounds,
) -> tuple[Doubles, Doubles] | None:
    """New (first, second) matrices, each [columns + 1, outputs]; None where they are no better on the rows that judge.

    second(clip(first(patches))) + offset is to be clip(wanted), within the bounds `outer`.
    """
    from scipy.optimize import minimize

    offset = np.broadcast_to(offset, wanted.shape)
    judging = np.arange(len(patches)) % _JUDGE_EVERY == 0
    fit = _Problem(patches[~judging], inside[~judging], matrices, bounds, wanted[~judging], offset[~judging], outer)
    judge = _Problem(patches[judging], inside[judging], matrices, bounds, wanted[judging], offset[judging], outer)
    judge.scales = fit.scales
    start = np.zeros(sum(m.size for m in matrices))
    found = minimize(fit.value, start, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS, "maxcor": 10})
    if not judge.value(found.x)[0] < judge.value(start)[0]:
        return None
    return fit.matrices(found.x)


class _Problem:
    """Mean squared error and its gradient, by the change of both matrices in units in which all columns are alike."""

    def __init__(
        self,
        patches: Floats,
        inside: Floats,
        matrices: tuple[Doubles, Doubles],
        bounds: Bounds,
        wanted: Floats,
        offset: Floats,
        outer: Bounds,
    ) -> None:
        self._rows, self._taps = inside.shape
        self._patches = with_ones(patches.reshape(self._rows * self._taps, -1))
        self._inside = inside.reshape(-1, 1)
        self._start, self._bounds = matrices, bounds
        self._wanted, self._low, self._high = wanted - offset, outer[0] - offset, outer[1] - offset
        hidden = with_ones(self._hidden(matrices[0].astype(np.float32))[1])
        self.scales = tuple(
            1 / np.maximum(np.sqrt(np.square(x, dtype=np.float64).mean(axis=0)), 1e-6)[:, None]
            for x in (self._patches, hidden)
        )

    def matrices(self, x: Doubles) -> tuple[Doubles, Doubles]:
        first, second = self._start
        changes = x[: first.size].reshape(first.shape), x[first.size :].reshape(second.shape)
        return first + changes[0] * self.scales[0], second + changes[1] * self.scales[1]

    def _hidden(self, first: Floats) -> tuple[Floats, Floats]:
        """(whether the activation lets each value through [rows * taps, channels], values [rows, taps * channels])."""
        before = self._patches @ first
        low, high = self._bounds
        through = ((before > low) & (before < high)) * self._inside
        after = np.clip(before, low, high) * self._inside
        return through, np.asarray(after.reshape(self._rows, -1), np.float32)

    def value(self, x: Doubles) -> tuple[float, Doubles]:
        first, second = (m.astype(np.float32) for m in self.matrices(x))
        through, hidden = self._hidden(first)
        joined = with_ones(hidden)
        got = joined @ second
        off = got - nearest_goal(got, self._wanted, self._low, self._high)
        down = (off @ second[:-1].T).reshape(through.shape) * through
        gradients = (self._patches.T @ down) * self.scales[0], (joined.T @ off) * self.scales[1]
        flat = np.concatenate([g.ravel() for g in gradients]).astype(np.float64) / self._rows
        return float(np.square(off, dtype=np.float64).sum()) / (2 * self._rows), flat
