"""Which channels can only be removed together: the dependency groups of structured pruning.

Every channel of a tensor's last axis carries the number of a class. A layer makes new classes; an op that only moves
channels (pad, pool, mean over space, depthwise) passes them on; one that combines tensors position by position (add,
mul) unites them; concatenation strings them together. A class is removed everywhere or nowhere, so residual nets need
no rule of their own. What an op does that is not in `FLOW`, stays as it is: its channels are frozen.

The idea is that of DepGraph (Fang et al. 2023, "DepGraph: Towards Any Structural Pruning"), carried out per channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeloop.errors import UsageError
from edgeloop.graph import Graph

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Follower:
    """A constant whose `axis` has an entry per channel: `classes` [extent of the axis]."""

    tensor: int
    axis: int
    classes: Ints


@dataclass(frozen=True)
class Group:
    """Classes that live in the same places, so one width stands for all of these places.

    name: of the first producer's output tensor. classes: [width]. producers: ops that make these channels (their
    filters go), consumers: ops whose weights multiply them (their columns go); as indices into the ops.
    """

    name: str
    classes: Ints
    producers: tuple[int, ...]
    consumers: tuple[int, ...]

    @property
    def width(self) -> int:
        return int(self.classes.size)


@dataclass(frozen=True)
class Channels:
    """Of one graph. of: tensor index -> class of each channel of the last axis. count: classes are 0 .. count - 1."""

    of: Mapping[int, Ints]
    followers: tuple[Follower, ...]
    groups: tuple[Group, ...]
    count: int

    def group(self, name: str) -> Group:
        """Raises UsageError where there is none of that name."""
        for group in self.groups:
            if group.name == name:
                return group
        known = ", ".join(g.name for g in self.groups)
        raise UsageError(
            f"there is no group of channels '{name}'", hint=f"groups that can be pruned: {known or 'none'}"
        )


class Builder:
    """What an op's rule writes to: classes of its output, followers, what is united and what is frozen."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.tensors = graph.main.tensors
        self.of: dict[int, Ints] = {}
        self.produced: list[tuple[int, Ints]] = []
        self.consumed: list[tuple[int, Ints]] = []
        self._followers: dict[tuple[int, int], Ints] = {}
        self._parent: list[int] = []
        self._frozen: set[int] = set()

    def new(self, count: int) -> Ints:
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        return np.arange(start, start + count, dtype=np.int64)

    def classes(self, index: int) -> Ints:
        """Of a tensor; those of one that no rule has seen (a constant) are its own, and stay."""
        if index not in self.of:
            self.of[index] = self.new(self.width(index))
            self.freeze(self.of[index])
        return self.of[index]

    def width(self, index: int) -> int:
        shape = self.tensors[index].shape
        return max(int(shape[-1]), 1) if shape else 1

    def follow(self, tensor: int, axis: int, classes: Ints) -> None:
        """A constant that two ops read ties their channels together."""
        known = self._followers.setdefault((tensor, axis), classes)
        if known is not classes:
            self.unite(known, classes)

    def unite(self, first: Ints, second: Ints) -> None:
        if first.size != second.size:
            self.freeze(first)
            self.freeze(second)
            return
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            x, y = self.root(a), self.root(b)
            self._parent[max(x, y)] = min(x, y)

    def freeze(self, classes: Iterable[int]) -> None:
        self._frozen.update(int(c) for c in classes)

    def root(self, index: int) -> int:
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def finished(self) -> Channels:
        roots = np.array([self.root(i) for i in range(len(self._parent))], np.int64)
        frozen = {int(roots[i]) for i in self._frozen}
        of = {index: roots[classes] for index, classes in self.of.items()}
        followers = tuple(Follower(t, a, roots[c]) for (t, a), c in self._followers.items())
        produced = [(op, roots[c]) for op, c in self.produced]
        consumed = [(op, roots[c]) for op, c in self.consumed]
        return Channels(of, followers, _groups(self.graph, produced, consumed, frozen), len(roots))


def _groups(
    graph: Graph, produced: list[tuple[int, Ints]], consumed: list[tuple[int, Ints]], frozen: set[int]
) -> tuple[Group, ...]:
    makers: dict[int, list[int]] = {}
    readers: dict[int, list[int]] = {}
    for places, found in ((produced, makers), (consumed, readers)):
        for op, classes in places:
            for c in dict.fromkeys(classes.tolist()):
                found.setdefault(c, []).append(op)
    alike: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
    for c, ops in makers.items():
        if c not in frozen and c in readers:
            alike.setdefault((tuple(ops), tuple(readers[c])), []).append(c)
    main = graph.main
    groups, names = [], set[str]()
    for (producers, consumers), together in alike.items():
        name = plain = main.tensors[main.ops[producers[0]].outputs[0]].name
        number = 1
        while name in names:
            number += 1
            name = f"{plain}#{number}"
        names.add(name)
        groups.append(Group(name, np.array(together, np.int64), producers, consumers))
    return tuple(groups)


def find_channels(graph: Graph) -> Channels:
    """Of the main subgraph. Raises UsageError for a graph that is not float: pruning comes before quantization."""
    from edgeloop_converters.passes.pruning.flow import FLOW, stays

    kind = graph.numeric_kind()
    if kind != "float":
        raise UsageError(f"the model is {kind}, pruning takes a float one", hint="prune first, quantize afterwards")
    builder = Builder(graph)
    main = graph.main
    for index in main.inputs:
        builder.classes(index)
    for number, op in enumerate(main.ops):
        rule = FLOW.get(op.name, stays) if not op.custom else stays
        rule(builder, number, op)
    for index in main.outputs:
        builder.freeze(builder.classes(index))
    for index, tensor in enumerate(main.tensors):
        if tensor.is_variable and index in builder.of:
            builder.freeze(builder.of[index])
    return builder.finished()
