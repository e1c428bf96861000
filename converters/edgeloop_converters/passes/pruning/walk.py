"""Tensors of a model over the samples, each computed once: a deeper layer goes on from what is kept of earlier ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import DataError
from edgeloop.graph import Graph, Op
from edgeloop.graph.parts import extract
from edgeloop.runtime import open_session

Floats = npt.NDArray[np.float32]
Samples = Sequence[Sequence[npt.NDArray[Any]]]

MOST_BYTES = 768 << 20


@dataclass(frozen=True)
class _Part:
    """A model of its own, and the names of the tensors it takes, in the order of its inputs."""

    model: bytes
    takes: tuple[str, ...]


class Walk:
    """Of the main subgraph. What has been asked for is kept, the latest first, up to `most_bytes`; what is kept is held
    to be right: after a layer's weights have changed, `forget` what it computes.
    """

    def __init__(self, graph: Graph, samples: Samples, threads: int = 1, *, most_bytes: int = MOST_BYTES) -> None:
        """Raises DataError without samples."""
        if not samples:
            raise DataError("no samples: what layers see of the data decides here")
        self._graph, self._samples, self._threads, self._room = graph, samples, threads, most_bytes
        self._inputs = {t.name: [sample[i] for sample in samples] for i, t in enumerate(graph.inputs)}
        self._kept: dict[str, list[Floats]] = {}
        self._keeps = not any(tensor.is_variable for tensor in graph.main.tensors)

    def fork(self, graph: Graph) -> Walk:
        """Of another graph over the same samples, which knows of this one what is the same there."""
        other = Walk(graph, self._samples, self._threads, most_bytes=self._room)
        if other._keeps:
            names = {t.name for t in graph.main.tensors} - changed_tensors(self._graph, graph)
            other._kept = {name: values for name, values in self._kept.items() if name in names}
        return other

    def forget(self, name: str) -> None:
        """A tensor, and all that is computed from it."""
        main = self._graph.main
        gone = {main.index_of(name)}
        for op in main.ops:
            if gone.intersection(op.inputs):
                gone.update(op.outputs)
        for index in gone:
            self._kept.pop(main.tensors[index].name, None)

    def values(self, names: Sequence[str]) -> Iterator[list[Floats]]:
        """Those tensors, per sample, each with its batch axis."""
        missing = [n for n in dict.fromkeys(names) if n not in self._kept and n not in self._inputs]
        fresh: dict[str, list[Floats]] = {n: [] for n in missing if self._is_kept(n)}
        known = {**self._kept, **self._inputs}
        with ExitStack() as stack:
            part = self._part(missing) if missing else None
            session = None if part is None else stack.enter_context(open_session(part.model, threads=self._threads))
            for n in range(len(self._samples)):
                found: dict[str, Any] = {}
                if part is not None and session is not None:
                    for i, name in enumerate(part.takes):
                        session.set_input(i, known[name][n])
                    session.invoke()
                    found = {name: session.output(i) for i, name in enumerate(missing)}
                for name, values in fresh.items():
                    values.append(found[name])
                yield [found[name] if name in found else known[name][n] for name in names]
        self._keep(names, fresh)

    def stacked(self, names: Sequence[str]) -> list[Floats]:
        """Over the samples, each [samples, ...]."""
        return [np.stack(column) for column in zip(*self.values(names), strict=True)]

    def _is_kept(self, name: str) -> bool:
        tensor = self._graph.main.tensors[self._graph.main.index_of(name)]
        return self._keeps and min(tensor.shape, default=1) > 0 and tensor.byte_count * len(self._samples) <= self._room

    def _keep(self, asked: Sequence[str], fresh: dict[str, list[Floats]]) -> None:
        again = {name: self._kept.pop(name) for name in dict.fromkeys(asked) if name in self._kept}
        self._kept.update({**again, **fresh})
        sizes = {name: sum(value.nbytes for value in values) for name, values in self._kept.items()}
        for name in list(self._kept):
            if sum(sizes.values()) <= self._room:
                break
            del self._kept[name], sizes[name]

    def _part(self, names: Sequence[str]) -> _Part:
        """From what is known to these tensors."""
        main = self._graph.main
        known = {i for i, t in enumerate(main.tensors) if t.name in self._kept or t.name in self._inputs}
        wanted, border, ops = {main.index_of(n) for n in names}, set[int](), []
        for op in reversed(main.ops):
            if wanted.intersection(op.outputs):
                ops.append(op)
                computed = {i for i in op.inputs if i >= 0 and not main.tensors[i].is_constant}
                border |= computed & known
                wanted |= computed - known
        made = {i for op in ops for i in op.outputs}
        takes = sorted(border - made)
        part = extract(self._graph, ops[::-1], takes, [main.index_of(n) for n in names])[0]
        return _Part(part.write(), tuple(main.tensors[i].name for i in takes))


def changed_tensors(original: Graph, graph: Graph) -> frozenset[str]:
    """Names of tensors that hold other values than before: narrower ones, those made from such, by another maker, or
    with other weights."""
    shapes = {tensor.name: tensor.shape for tensor in original.main.tensors}
    makers = {original.main.tensors[op.outputs[0]].name: op for op in original.main.ops if op.outputs}
    changed, main = set[str](), graph.main
    for op in main.ops:
        maker = makers.get(main.tensors[op.outputs[0]].name) if op.outputs else None
        computed = {main.tensors[i].name for i in op.inputs if i >= 0 and not main.tensors[i].is_constant}
        is_other = maker is None or not _reads_the_same(original, maker, graph, op) or bool(computed & changed)
        for name in (main.tensors[i].name for i in op.outputs):
            if is_other or shapes.get(name) != main.tensors[main.index_of(name)].shape:
                changed.add(name)
    return frozenset(changed)


def _reads_the_same(original: Graph, maker: Op, graph: Graph, op: Op) -> bool:
    if len(maker.inputs) != len(op.inputs):
        return False
    for before, now in zip(maker.inputs, op.inputs, strict=True):
        if before < 0 or now < 0:
            if before != now:
                return False
            continue
        a, b = original.main.tensors[before], graph.main.tensors[now]
        if a.is_constant != b.is_constant or (not a.is_constant and a.name != b.name):
            return False
        if a.data is not None and b.data is not None and a.data is not b.data and not np.array_equal(a.data, b.data):
            return False
    return True
