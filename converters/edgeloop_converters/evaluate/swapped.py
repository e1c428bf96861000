"""Classes whose samples are answered as each other's: what two folders with one another's names look like. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_ALPHA = 0.01
_FEWEST = 10
"""Samples of a class below which nothing is said of it."""
_MOST_NAMED = 4


def swapped_classes(confusion: npt.NDArray[np.int64]) -> list[tuple[int, ...]]:
    """Cycles of classes, most of whose samples are answered as the next class of the cycle.

    confusion: [true class, answer]. A cycle counts where chance, were both answers as likely, would show it in one of
    100 matrices (normal approximation, Bonferroni over the classes).
    """
    most = confusion.argmax(axis=1)
    enough = confusion.sum(axis=1) >= _FEWEST
    follows = {i: int(j) for i, j in enumerate(most) if i != j and enough[i] and confusion[i, j] > confusion[i, i]}
    found, seen = [], set[int]()
    for start in follows:
        path = [start]
        while path[-1] not in seen and follows.get(path[-1], start) not in path:
            path.append(follows[path[-1]])
        if path[-1] not in seen and follows.get(path[-1]) == start and _is_sure(confusion, path):
            found.append(tuple(path))
        seen.update(path)
    return found


def _is_sure(confusion: npt.NDArray[np.int64], cycle: Sequence[int]) -> bool:
    own = sum(int(confusion[i, i]) for i in cycle)
    other = sum(int(confusion[i, j]) for i, j in zip(cycle, [*cycle[1:], cycle[0]], strict=True))
    deviations = (other - own - 1) / math.sqrt(other + own)
    return 0.5 * math.erfc(deviations / math.sqrt(2)) < _ALPHA / len(confusion)


def swapped_text(confusion: npt.NDArray[np.int64], names: Sequence[str] = ()) -> str:
    """One line for people; empty where nothing looks swapped. names: by class id, where they are known."""
    cycles = swapped_classes(confusion)
    if not cycles:
        return ""

    def name(i: int) -> str:
        return f"'{names[i]}'" if i < len(names) and names[i] else f"class {i}"

    said = []
    for cycle in cycles:
        for i, j in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
            said.append(f"{confusion[i, j] / confusion[i].sum():.0%} of {name(i)} are answered as {name(j)}")
    more = ", ..." if len(said) > _MOST_NAMED else ""
    return (
        f"classes look swapped: {', '.join(said[:_MOST_NAMED])}{more}: check the names of the class folders or the "
        "class ids, and the order of the labels"
    )
