"""What layers see of the samples: second moments of their inputs, and values of channels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import DataError
from edgeloop.graph import Graph, Op
from edgeloop.graph.parts import cut
from edgeloop.runtime import open_session
from edgeloop_converters.passes.patches import LayerRows

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Samples = Sequence[Sequence[Array]]

_CHUNK_VALUES = 4_000_000


def blas_threads(threads: int) -> AbstractContextManager[Any]:
    """Threads of the linear algebra wait for each other by spinning: on a busy host, one is several times as fast as
    all.
    """
    from threadpoolctl import ThreadpoolController

    limited: AbstractContextManager[Any] = ThreadpoolController().limit(limits=threads, user_api="blas")
    return limited


def values(graph: Graph, names: Sequence[str], samples: Samples, threads: int = 1) -> Iterator[list[Floats]]:
    """Those tensors of the main subgraph, per sample, each with its batch axis. Raises DataError without samples."""
    if not samples:
        raise DataError("no samples: what layers see of the data decides here")
    with open_session(cut(graph, names), threads=threads) as session:
        for sample in samples:
            for i, array in enumerate(sample):
                session.set_input(i, array)
            session.invoke()
            yield [session.output(i) for i in range(len(names))]


def input_moments(
    graph: Graph, ops: Sequence[Op], samples: Samples, *, rows: int, seed: int, threads: int = 1
) -> list[Doubles]:
    """Per op (CONV_2D, FULLY_CONNECTED): X^T X [columns + 1, columns + 1] over about `rows` rows, ones last."""
    main = graph.main
    names = list(dict.fromkeys(main.tensors[op.inputs[0]].name for op in ops))
    places = [LayerRows(graph, op, len(samples), rows, seed) for op in ops]
    columns = [int(np.prod(main.tensors[op.inputs[1]].shape[1:])) for op in ops]
    sums = [np.zeros((n + 1, n + 1)) for n in columns]
    waiting: list[list[Floats]] = [[] for _ in ops]

    def add(i: int) -> None:
        if waiting[i]:
            x = with_ones(np.concatenate(waiting[i]))
            sums[i] += x.T @ x
            waiting[i].clear()

    for found in values(graph, names, samples, threads):
        by_name = dict(zip(names, found, strict=True))
        for i, op in enumerate(ops):
            waiting[i].append(places[i].rows(by_name[main.tensors[op.inputs[0]].name], places[i].positions()))
            if sum(map(len, waiting[i])) * columns[i] > _CHUNK_VALUES:
                add(i)
    for i in range(len(ops)):
        add(i)
    return sums


def with_ones(rows: Floats) -> Floats:
    """[rows, columns + 1]."""
    return np.concatenate([rows, np.ones((len(rows), 1), rows.dtype)], axis=1)


def channel_values(
    graph: Graph, tensors: Mapping[int, Array], samples: Samples, threads: int = 1
) -> Iterator[dict[int, Floats]]:
    """Per sample: tensor index -> [positions, channels]. tensors: those wanted, as keys."""
    names = [graph.main.tensors[i].name for i in tensors]
    for found in values(graph, names, samples, threads):
        yield {i: v.reshape(-1, v.shape[-1]) for i, v in zip(tensors, found, strict=True)}
