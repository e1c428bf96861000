"""Cross-layer equalization: channels scaled so that all of them use the codes of one range.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1; with the
factors taken from activations it is what Xiao et al. 2023, "SmoothQuant", do. One scale serves a whole tensor, so a
channel whose values are small gets few codes. The float function stays as it is (`links`).

`channel_noise` has the choice of the factors.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.graph import Graph, Tensor
from edgeloop.graph.parts import cut
from edgeloop.runtime import open_session
from edgeloop_converters.calibration import GROUP_SIZE, Ranges
from edgeloop_converters.passes.channel_noise import ChannelStatistics, choose_factors, weights_of
from edgeloop_converters.passes.codes import WeightCodes
from edgeloop_converters.passes.links import Link, links, scale_channels
from edgeloop_converters.passes.packed import PackedModel, run_real, score_names
from edgeloop_converters.passes.report import PassReport

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Samples = Sequence[Sequence[Array]]

NAME = "equalization"
SAMPLES, FEWEST_SAMPLES = 64, 16
_MOST_VALUES = 2e8
"""Of the tensors between layers, over all samples that are looked at."""


@dataclass(frozen=True)
class Equalized:
    """A float model of the same function, its ranges, and its int8 file; or those that came in, where it did not help.

    Inner tensors of `packed` stand for those of `float_model`, not for the original's.
    """

    float_model: bytes
    ranges: Ranges
    packed: bytes
    report: PassReport


def equalize(float_model: bytes, packed: bytes, ranges: Ranges, samples: Samples, threads: int = 1) -> Equalized:
    """Scale the channels between layers, and keep it where the error of the outputs falls.

    packed: `float_model` as int8 with `ranges`. samples: float model inputs, one array per input, in
    random order; at most 64 are used.
    """
    started = time.monotonic()
    plain = PackedModel(float_model, packed, ranges)
    free = {member for group in plain.groups for member in group.members}
    graph = plain.float_graph.copy()
    found = [link for link in links(graph) if _is_free(link, graph, plain, free)]
    if not found or not samples:
        report = PassReport(NAME, "no two layers between which channels could be scaled", time.monotonic() - started)
        return Equalized(float_model, ranges, packed, replace(report, accepted=False))
    values = sum(graph.main.tensors[i].element_count for link in found for i in link.between)
    chosen = samples[: int(np.clip(_MOST_VALUES / values, FEWEST_SAMPLES, SAMPLES))]
    statistics = measure(graph, found, chosen, threads)
    factors = choose_factors(graph, found, statistics, _per_tensor(plain))
    spans = dict(ranges.tensors)
    for link, chosen_factors, known in zip(found, factors, statistics, strict=True):
        scale_channels(graph, link, chosen_factors.astype(np.float32))
        ratios = known.scaled(chosen_factors).spans / np.maximum(known.spans, 1e-30)
        for index, ratio in zip(link.between, ratios.tolist(), strict=True):
            name = graph.main.tensors[index].name
            spans[name] = (spans[name][0] * ratio, spans[name][1] * ratio)
    scaled = PackedModel(graph.write(), packed, replace(ranges, tensors=spans))
    requantize(scaled, found)
    before, after = varying_errors(plain, scaled, chosen, threads)
    widest = max(float(f.max() / f.min()) for f in factors)
    report = PassReport(
        NAME,
        f"channels between {len(found)} pairs of layers scaled, by up to {widest:.3g}",
        time.monotonic() - started,
        {"varying_error": before},
        {"varying_error": after},
        accepted=after < before,
    )
    if not report.accepted:
        return Equalized(float_model, ranges, packed, report)
    return Equalized(graph.write(), replace(ranges, tensors=spans), scaled.write(), report)


def varying_errors(first: PackedModel, second: PackedModel, samples: Samples, threads: int = 1) -> tuple[float, float]:
    """Of each, the variance of the outputs' errors over the samples in units of the outputs' variance.

    Errors that are the same for all samples do not count: bias correction takes them away afterwards. Typical errors
    count, the square of the mean magnitude, so that one loud sample does not decide.
    """
    names = score_names(first.float_graph)
    wanted = run_real(cut(first.float_graph, names), samples, threads)

    def error(model: PackedModel) -> float:
        total = 0.0
        for got, real in zip(run_real(cut(model.graph, names), samples, threads), wanted, strict=True):
            errors = (got - real).reshape(len(got), -1).astype(np.float64)
            errors -= errors.mean(axis=0)
            total += float(np.sqrt(np.square(errors).mean(axis=1)).mean()) ** 2 / max(
                float(real.var(axis=0).mean()), 1e-12
            )
        return total / len(names)

    return error(first), error(second)


def _is_free(link: Link, graph: Graph, plain: PackedModel, free: set[int]) -> bool:
    """Whether the quantized tensors between the layers have a scale that is theirs."""
    names = {graph.main.tensors[i].name for i in link.between}
    indices = {i for i, t in enumerate(plain.graph.main.tensors) if t.name in names}
    joined = {m for group in plain.groups if indices & set(group.members) for m in group.members}
    return indices <= free and joined <= indices and len(indices) == len(link.between)


def _per_tensor(model: PackedModel) -> frozenset[str]:
    """Names of the weights that have one scale."""
    return frozenset(
        t.name for t in model.graph.main.tensors if t.is_constant and t.dtype == "int8" and not t.is_per_channel
    )


def measure(graph: Graph, found: Sequence[Link], samples: Samples, threads: int = 1) -> list[ChannelStatistics]:
    """Per link, by running the float model; tops are means over groups of samples, as calibration has ranges."""
    tensors = graph.main.tensors
    sources = [tensors[link.producer.inputs[0]].name for link in found]
    between = [[tensors[i].name for i in link.between] for link in found]
    inputs = {t.name for t in graph.inputs}
    wanted = list(dict.fromkeys(n for names in (*between, sources) for n in names if n not in inputs))
    groups = max(1, round(len(samples) / GROUP_SIZE))
    tops = [np.zeros((len(link.between), groups, link.channels)) for link in found]
    sums, squares = ([np.zeros(link.channels) for link in found] for _ in range(2))
    moments: list[Doubles] = [np.zeros(1) for _ in found]
    for number, values in enumerate(_runs(graph, wanted, samples, threads)):
        for i, link in enumerate(found):
            for top, name in zip(tops[i][:, number % groups], between[i], strict=True):
                flat = values[name].reshape(-1, link.channels)
                np.maximum(top, np.abs(flat).max(axis=0), out=top)
            sums[i] += flat.mean(axis=0, dtype=np.float64)
            squares[i] += np.square(flat, dtype=np.float64).mean(axis=0)
            source = values[sources[i]]
            moments[i] = moments[i] + np.square(source, dtype=np.float64).reshape(-1, source.shape[-1]).mean(axis=0)
    count = len(samples)
    return [
        ChannelStatistics(
            tops[i],
            np.maximum(squares[i] / count - np.square(sums[i] / count), 0.0),
            _moment_of_a_sum(link, weights_of(graph, link, first=True), moments[i] / count),
        )
        for i, link in enumerate(found)
    ]


def _moment_of_a_sum(link: Link, weights: Doubles, moments: Doubles) -> Doubles:
    if link.producer.name == "DEPTHWISE_CONV_2D":
        each = np.repeat(moments, link.channels // moments.size)
        return np.asarray(each * (weights.size // link.channels))
    return np.full(link.channels, float(moments.mean()) * weights[0].size)


def _runs(graph: Graph, wanted: Sequence[str], samples: Samples, threads: int) -> Iterator[dict[str, Array]]:
    """Inputs and the tensors `wanted` of every sample, by name."""
    names = [t.name for t in graph.inputs]
    with open_session(cut(graph, wanted), threads=threads) as session:
        for arrays in samples:
            for i, array in enumerate(arrays):
                session.set_input(i, array)
            session.invoke()
            outputs = {name: session.output(i) for i, name in enumerate(wanted)}
            yield {**dict(zip(names, arrays, strict=True)), **outputs}


def requantize(model: PackedModel, found: Sequence[Link]) -> None:
    """Give an int8 file the scales, codes and biases of `model.float_graph`, whose channels were scaled, in place."""
    for group in model.groups:
        model.set_range(group, model.range_of(group))
    for op in {id(op): op for link in found for op in (link.producer, link.consumer)}.values():
        source = model.float_graph.constant(op, 1)
        assert source is not None
        packed = model.graph.tensor_by_name(source.name)
        model.set_weight(source.name, nearest_codes(source, packed))
    model.weights.clear()  # they are the packed file's own now


def nearest_codes(source: Tensor, packed: Tensor) -> WeightCodes:
    """Float weights rounded as the packer does, with as many scales as `packed` has."""
    assert source.data is not None
    assert packed.quantization is not None
    values = np.asarray(source.data, np.float64)
    axis = packed.quantization.dimension
    if packed.is_per_channel:
        others = tuple(i for i in range(values.ndim) if i != axis)
        largest = np.abs(values).max(axis=others, keepdims=True)
    else:
        largest = np.abs(values).max(keepdims=True)
    scales = (np.maximum(largest, 1e-12) / 127).astype(np.float32)
    codes = np.clip(np.rint(values / scales), -127, 127).astype(np.int8)
    return WeightCodes(codes, scales.reshape(-1), axis)
