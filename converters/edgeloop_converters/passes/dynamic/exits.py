"""Exit heads: small classifiers on inner tensors, that answer as the whole model does where that is easy.

A head is mean and peak of each quarter of the map and one dense layer; what comes before is left as it is. So
fitting it to the whole model's probabilities (distillation at temperature 1, without labels) is a convex problem:
multinomial logistic regression on soft targets, solved to its optimum in seconds, without a training loop and always
the same.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import UsageError
from edgeloop.graph import Graph, Op, Tensor, make_options
from edgeloop.graph.parts import cut, exit_heads
from edgeloop.progress import Progress, SilentProgress
from edgeloop_converters.passes.dynamic.places import Place, choose_places, find_places
from edgeloop_converters.passes.figures import Cost, Samples, figures, macs
from edgeloop_converters.passes.logistic import fit_soft, softmax
from edgeloop_converters.passes.packed import run_real
from edgeloop_converters.passes.report import PassReport
from edgeloop_converters.passes.samples import Given, as_samples

Floats = npt.NDArray[np.float32]

NAME = "exits"
AT = (0.4,)
MOST_EXITS = 4
_FEWEST_SAMPLES = 32
_HELD_OUT = 5  # one in so many
_GRID = 2
_VALID = 1


def add_exits(
    graph: Graph,
    *,
    samples: Given,
    at: Sequence[float] = AT,
    cost: Cost = macs,
    output: int = 0,
    progress: Progress | None = None,
    seed: int = 0,
    threads: int = 1,
) -> tuple[Graph, PassReport]:
    """The model with more outputs behind its own, `exit1` and so on: heads that answer as output `output` does.

    samples: one array [1, ...] per input each, or an array [samples, ...]; no labels. at: shares of `cost` near which
    to stop. Raises UsageError: no classification, no place, few samples.
    """
    began, samples = time.monotonic(), as_samples(graph, samples)
    if not 1 <= len(at) <= MOST_EXITS:
        raise UsageError(f"exits at {len(at)} places: it must be 1 to {MOST_EXITS}")
    if len(samples) < _FEWEST_SAMPLES:
        raise UsageError(f"exits are fitted to {len(samples)} samples: {_FEWEST_SAMPLES} are needed", hint="--data DIR")
    if exit_heads(graph):
        raise UsageError("the model has exits already", hint="leave out one of the passes that add them")
    fresh = graph.copy()
    fresh.ensure_unique_names()
    answer = _answer(fresh, output)
    places = choose_places(find_places(fresh, cost), at)
    signature = fresh.ensure_signature()
    heads = []
    for number, place in enumerate(places, start=1):
        head = _append_head(fresh, place, answer, f"exit{number}")
        signature.outputs[head.name] = head.output
        fresh.main.outputs.append(head.output)
        heads.append(head)
    with (progress or SilentProgress()).step("fitting exits", total=len(heads)) as advance:
        told, after = _fit(fresh, heads, answer, samples, seed, threads, advance)
    told = [f"{t} at {p.share:.0%} of the cost" for t, p in zip(told, places, strict=True)]
    report = PassReport(NAME, "; ".join(told), time.monotonic() - began, figures(graph), {**figures(fresh), **after})
    return fresh, report


@dataclass(frozen=True)
class _Answer:
    """The output that heads imitate. scores: name of the tensor before its softmax. beta: the softmax's; 0: none."""

    scores: str
    classes: int
    beta: float


@dataclass(frozen=True)
class _Head:
    """pooled: name of what its dense layer takes. weights, bias: indices of that layer's constants."""

    name: str
    pooled: str
    weights: int
    bias: int
    output: int


def _answer(graph: Graph, output: int) -> _Answer:
    main = graph.main
    index = main.outputs[output]
    shape = main.tensors[index].shape
    op = next((o for o in main.ops if index in o.outputs), None)
    if len(shape) != 2 or shape[0] != 1 or shape[1] < 2 or op is None or op.name in ("LOGISTIC", "LOG_SOFTMAX"):
        raise UsageError(
            f"exits need a classification, one of several classes; output {output} is {list(shape)}"
            + (f" by {op.name}" if op is not None else "")
        )
    if op.name != "SOFTMAX":
        return _Answer(main.tensors[index].name, shape[1], 0.0)
    return _Answer(main.tensors[op.inputs[0]].name, shape[1], float(getattr(op.options, "beta", 1.0) or 1.0))


def _append_head(graph: Graph, place: Place, answer: _Answer, name: str) -> _Head:
    """Means, dense, and the softmax that the answer has; right behind the place, weights of 0."""
    main = graph.main
    source = main.index_of(place.tensor)
    ops, pooled = _pooling(graph, source, name)
    channels = main.tensors[pooled].shape[-1]
    weights = main.add_tensor(_constant(f"{name}/weights", np.zeros((answer.classes, channels), np.float32)))
    bias = main.add_tensor(_constant(f"{name}/bias", np.zeros(answer.classes, np.float32)))
    result = main.add_tensor(Tensor(f"{name}/scores" if answer.beta else name, (1, answer.classes)))
    ops.append(Op("FULLY_CONNECTED", [pooled, weights, bias], [result], make_options("FullyConnectedOptions")))
    if answer.beta:
        scores, result = result, main.add_tensor(Tensor(name, (1, answer.classes)))
        ops.append(Op("SOFTMAX", [scores], [result], make_options("SoftmaxOptions", beta=answer.beta)))
    behind = next(number for number, op in enumerate(main.ops) if source in op.outputs) + 1
    main.ops[behind:behind] = ops
    return _Head(name, main.tensors[pooled].name, weights, bias, result)


def _pooling(graph: Graph, source: int, name: str) -> tuple[list[Op], int]:
    """Ops to a tensor [1, columns], and its index: of a map mean and peak of each quarter, which know more of where
    things are than one mean over all (ADR 200); else the mean over the positions.
    """
    main, shape = graph.main, graph.main.tensors[source].shape
    if len(shape) == 2:
        return [], source
    if len(shape) == 4 and min(shape[1:3]) >= _GRID:
        high, wide = shape[1] // _GRID, shape[2] // _GRID
        out = (shape[1] - high) // high + 1, (shape[2] - wide) // wide + 1
        pool = make_options("Pool2DOptions", padding=_VALID, filterHeight=high, filterWidth=wide, strideH=high,
                            strideW=wide)  # fmt: skip
        parts = [main.add_tensor(Tensor(f"{name}/{what}", (1, *out, shape[3]))) for what in ("means", "peaks")]
        grid = main.add_tensor(Tensor(f"{name}/grid", (1, *out, 2 * shape[3])))
        flat = main.add_tensor(Tensor(f"{name}/features", (1, out[0] * out[1] * 2 * shape[3])))
        size = np.array(main.tensors[flat].shape, np.int32)
        size_at = main.add_tensor(Tensor(f"{name}/shape", size.shape, "int32", size))
        reshape = make_options("ReshapeOptions", newShape=size)
        join = make_options("ConcatenationOptions", axis=3)
        pooling = ("AVERAGE_POOL_2D", "MAX_POOL_2D")
        ops = [Op(op, [source], [part], pool) for op, part in zip(pooling, parts, strict=True)]
        return [*ops, Op("CONCATENATION", parts, [grid], join), Op("RESHAPE", [grid, size_at], [flat], reshape)], flat
    axes = np.arange(1, len(shape) - 1, dtype=np.int32)
    axes_at = main.add_tensor(Tensor(f"{name}/axes", axes.shape, "int32", axes))
    flat = main.add_tensor(Tensor(f"{name}/features", (1, shape[-1])))
    return [Op("MEAN", [source, axes_at], [flat], make_options("ReducerOptions", keepDims=False))], flat


def _constant(name: str, data: Floats) -> Tensor:
    return Tensor(name, data.shape, "float32", data)


def _fit(
    graph: Graph, heads: Sequence[_Head], answer: _Answer, samples: Samples, seed: int, threads: int, advance: Any
) -> tuple[list[str], dict[str, float]]:
    """Sets the heads' weights; what to say of each, and its agreement with the whole model on held-out samples."""
    found = run_real(cut(graph, [*(h.pooled for h in heads), answer.scores]), samples, threads)
    *features, scores = (array.reshape(len(samples), -1) for array in found)
    beta = answer.beta or 1.0
    targets = softmax(beta * scores.astype(np.float64))
    order = np.random.default_rng(seed).permutation(len(samples))
    held, learnt = order[: len(order) // _HELD_OUT], order[len(order) // _HELD_OUT :]
    told, after = [], {}
    for head, columns in zip(heads, features, strict=True):
        weights, bias = fit_soft(columns, targets, learnt, held)
        for index, value in ((head.weights, weights / beta), (head.bias, bias / beta)):
            graph.main.tensors[index].data = np.ascontiguousarray(value, np.float32)
        given = (columns[held] @ weights.T + bias).argmax(axis=1)
        agreement = float((given == targets[held].argmax(axis=1)).mean())
        told.append(f"{head.name} answers {agreement:.1%} of {len(held)} held-out samples as the whole model does,")
        after[f"{head.name} agreement"] = agreement
        advance(1)
    return told, after
