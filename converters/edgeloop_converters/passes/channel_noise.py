"""Which factors between two layers put the least rounding noise into the second one's output.

Every rounded value adds step^2 / 12: the activations between the layers, the second layer's weights and, where weights
have one scale per tensor, the first one's. A few sets of factors are compared by the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeloop.graph import Graph
from edgeloop_converters.passes.links import Link, scale_channels

Doubles = npt.NDArray[np.float64]

_EXPONENTS = (0.25, 0.5, 0.75, 1.0)
_LARGEST_RATIO = 64.0
"""Between two channels' factors: a channel that hardly ever speaks on these samples may do so on others."""
_SILENT = 1e-4
_SWEEPS = 2


@dataclass(frozen=True)
class ChannelStatistics:
    """Of what lies between two layers.

    tops [tensors, groups of samples, channels]: largest magnitudes in each tensor of the link. variance [channels]: of
    the last of them. source [channels]: the second moment of what the first layer reads, added up over the values that
    make one output.
    """

    tops: Doubles
    variance: Doubles
    source: Doubles

    @property
    def spans(self) -> Doubles:
        """[tensors] What their ranges must hold: means over the groups, as calibration has them."""
        return np.asarray(self.tops.max(axis=2).mean(axis=1))

    def scaled(self, factors: Doubles) -> ChannelStatistics:
        return ChannelStatistics(self.tops / factors, self.variance / factors**2, self.source)


def choose_factors(
    graph: Graph, found: Sequence[Link], statistics: Sequence[ChannelStatistics], per_tensor: frozenset[str]
) -> list[Doubles]:
    """Factors [channels] per link, by the least noise; all 1 where scaling adds some. `graph` is not changed."""
    factors = [np.ones(link.channels) for link in found]
    trial = graph.copy()
    for _ in range(_SWEEPS if per_tensor else 1):  # with one scale per tensor, one link's weights are the next one's
        for i, link in enumerate(found):
            known = statistics[i].scaled(factors[i])
            first, second = weights_of(trial, link, first=True), weights_of(trial, link, first=False)
            alone = tuple(trial.main.tensors[op.inputs[1]].name in per_tensor for op in (link.producer, link.consumer))
            sizes = np.array([trial.main.tensors[t].element_count for t in link.between], np.float64)
            best = min(
                _candidates(link, known, first, second),
                key=lambda f: noise(link, known, first, second, f, alone, sizes),
            )
            factors[i] = factors[i] * best
            scale_channels(trial, link, best.astype(np.float32))
    return factors


def _candidates(link: Link, known: ChannelStatistics, first: Doubles, second: Doubles) -> list[Doubles]:
    """By the activations' ranges, and by the weights' (Nagel's sqrt(r1 / r2)); nothing at all first."""
    produced = _per_channel(first, last=link.producer.name == "DEPTHWISE_CONV_2D")
    taken = np.abs(second).reshape(-1, second.shape[-1] // link.channels, link.channels).max(axis=(0, 1))
    ratio = np.sqrt(produced / np.maximum(taken, 1e-12))
    return [
        np.ones(link.channels),
        *(_bounded(known.tops[-1].mean(axis=0), exponent) for exponent in _EXPONENTS),
        *(_bounded(ratio, exponent) for exponent in (0.5, 1.0)),
        *(_bounded(produced, exponent) for exponent in (0.5, 1.0)),
    ]


def _per_channel(weights: Doubles, *, last: bool) -> Doubles:
    axes = tuple(range(weights.ndim - 1)) if last else tuple(range(1, weights.ndim))
    return np.asarray(np.abs(weights).max(axis=axes))


def _bounded(sizes: Doubles, exponent: float) -> Doubles:
    """(sizes / their largest) ^ exponent, at least 1 / 64; 1 for channels that are silent."""
    relative = sizes / max(float(sizes.max()), 1e-30)
    return np.where(relative < _SILENT, 1.0, np.maximum(relative, 1 / _LARGEST_RATIO) ** exponent)


def noise(
    link: Link,
    known: ChannelStatistics,
    first: Doubles,
    second: Doubles,
    factors: Doubles,
    per_tensor: tuple[bool, ...],
    sizes: Doubles,
) -> float:
    """Of the consumer's output, added up over its channels, in squared real units.

    first, second: weights of the two layers before they are scaled. per_tensor: whether each has one scale.
    sizes: [tensors] numbers of values of the tensors between them.
    """
    weights = second * np.tile(factors, second.shape[-1] // factors.size)
    power = np.square(weights).reshape(-1, second.shape[-1] // factors.size, factors.size).sum(axis=(0, 1))
    # A mean over many values leaves little of the noise that they had.
    shares = sizes[-1] / np.maximum(sizes, sizes[-1])
    total = float((np.square(known.scaled(factors).spans / 255) * shares).sum() * power.sum())
    variance = known.variance / factors**2
    depthwise = link.consumer.name == "DEPTHWISE_CONV_2D"
    steps = _per_channel(weights, last=depthwise) / 127
    if per_tensor[1]:
        steps = np.full_like(steps, steps.max())
    columns = weights.size // steps.size
    if depthwise:
        total += float((np.square(steps) * variance).sum()) * columns
    else:
        total += float(np.square(steps).sum()) * float(variance.mean()) * columns
    if per_tensor[0]:
        largest = float((_per_channel(first, last=link.producer.name == "DEPTHWISE_CONV_2D") / factors).max())
        total += (largest / 127) ** 2 * float((known.source * power).sum())
    return float(total) / 12


def weights_of(graph: Graph, link: Link, *, first: bool) -> Doubles:
    """Of the first or the second layer, as float64."""
    tensor = graph.constant(link.producer if first else link.consumer, 1)
    assert tensor is not None
    assert tensor.data is not None
    return np.asarray(tensor.data, np.float64)
