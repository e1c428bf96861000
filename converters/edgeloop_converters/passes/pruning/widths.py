"""How wide each group of channels becomes: pure functions of rankings, a kernel's tile and a cost goal."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgeloop.errors import GoalNotMetError, UsageError

_MOST_OPTIONS = 16


@dataclass(frozen=True)
class Ranking:
    """Of one group's channels.

    order: the first to go first; channels that are not in it always stay. loss [len(order) + 1]: what having removed
    so many is held to cost, from 0 up, comparable between groups. values: each channel's score, for a threshold.
    """

    order: tuple[int, ...]
    loss: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def width(self) -> int:
        return len(self.values)

    def kept(self, width: int) -> tuple[int, ...]:
        """The channels left when `width` are, in their order in the tensor."""
        gone = set(self.order[: self.width - width])
        return tuple(i for i in range(self.width) if i not in gone)

    def above(self, theta: float) -> int:
        """How many channels score more than theta: keep w_c where ||w_c|| > theta."""
        return sum(value > theta for value in self.values)


def options(width: int, tile: int, fewest: int = 1) -> tuple[int, ...]:
    """Widths that make sense, falling: the width itself, then multiples of `tile`; at most about 16 of them."""
    step = tile * max(1, -(-width // (tile * _MOST_OPTIONS)))
    return (width, *(w for w in range((width - 1) // step * step, 0, -step) if w >= fewest))


def rounded(wanted: float, width: int, tile: int) -> int:
    """The multiple of `tile` nearest to `wanted`; never none, never more than there are."""
    if wanted >= width:
        return width
    return min(width, max(min(tile, width), int(wanted / tile + 0.5) * tile))


def uniform(widths: Mapping[str, int], amount: float, tile: int) -> dict[str, int]:
    """The same share of every group goes. Raises UsageError for an amount outside of 0 <= amount < 1."""
    if not 0 <= amount < 1:
        raise UsageError(f"amount is the share of channels that goes, 0 <= amount < 1, got {amount:g}")
    return {name: rounded(width * (1 - amount), width, tile) for name, width in widths.items()}


def by_threshold(rankings: Mapping[str, Ranking], theta: float, tile: int) -> dict[str, int]:
    """What scores more than theta stays, rounded up to full tiles, and one tile at least."""
    found = {}
    for name, ranking in rankings.items():
        count = max(ranking.above(theta), ranking.width - len(ranking.order), 1)
        found[name] = min(ranking.width, -(-count // tile) * tile)
    return found


def by_cost(
    rankings: Mapping[str, Ranking],
    cost: Callable[[Mapping[str, int]], float],
    goal: float,
    tile: int,
    *,
    losses: Mapping[str, Mapping[int, float]] | None = None,
) -> dict[str, int]:
    """Step by step the narrowing that loses least per unit of cost saved, until cost(widths) <= goal.

    losses: group -> width -> loss, instead of the rankings'. Raises GoalNotMetError with the lowest cost there is.
    """
    widths = {name: ranking.width for name, ranking in rankings.items()}
    choices = {
        name: [w for w in options(r.width, tile, r.width - len(r.order)) if losses is None or w in losses[name]]
        for name, r in rankings.items()
    }

    def loss(name: str, width: int) -> float:
        if losses is not None:
            return losses[name][width]
        return rankings[name].loss[rankings[name].width - width]

    now = cost(widths)

    def rate(name: str, narrower: int) -> tuple[float, float] | None:
        """(loss per cost saved, what the cost would be); None where nothing is saved."""
        then = cost({**widths, name: narrower})
        if then >= now:
            return None
        # Saving beyond the goal is worth nothing.
        lost = max(loss(name, narrower) - loss(name, widths[name]), 0.0)
        return lost / (now - max(then, goal)), then

    # What was found before other groups got narrower still tells where to look first: only the front of the queue is
    # worked out again, which for deep nets is a few graphs a step in place of hundreds.
    waiting = [(0.0, 0.0, name, w) for name in widths for w in choices[name] if w < widths[name]]
    fresh = {entry[2:]: -1 for entry in waiting}
    step = 0
    while now > goal:
        while waiting:
            _, _, name, narrower = heapq.heappop(waiting)
            if narrower >= widths[name]:
                continue
            if fresh[name, narrower] == step:
                break
            found = rate(name, narrower)
            if found is not None:
                fresh[name, narrower] = step
                heapq.heappush(waiting, (*found, name, narrower))
        else:
            raise GoalNotMetError(
                f"a cost of {goal:,.0f} cannot be reached by removing channels: the least is {now:,.0f}",
                hint="a smaller tile, or whole blocks as well (prune_blocks)",
            )
        widths[name] = narrower
        now, step = cost(widths), step + 1
    return widths
