"""How much each channel of a group matters: a table, name -> ranking of all groups.

| name | a channel's score |
|---|---|
| l1, l2 | norm of its filters over all producers (Li et al. 2017) |
| activation | mean magnitude of its values where layers read it |
| apoz | share of its values that are not zero, 1 - APoZ (Hu et al. 2016) |
| taylor | what the loss changes by without it (`saliency`), or the product of weights and given gradients, summed
(Molchanov et al. 2019) |
| correlation | the share of its variance that no other channel explains; redundant filters are merged |
| reconstruction | what its readers lose when their other weights answer by least squares (`elimination`) |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop_converters.passes.pruning.channels import Channels, Group
from edgeloop_converters.passes.pruning.consumers import data_of
from edgeloop_converters.passes.pruning.elimination import Consumer, eliminate
from edgeloop_converters.passes.pruning.seen import Samples, channel_values
from edgeloop_converters.passes.pruning.widths import Ranking

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]

Gradients = Callable[[Graph], Mapping[str, Array]]
"""Mean gradient of a loss by the weights: name of a constant of the main subgraph -> array of its shape."""


@dataclass(frozen=True)
class Evidence:
    """What scores may look at. consumers: of `consumers.group_consumers`, for "reconstruction". labels: of the samples,
    for "taylor"."""

    graph: Graph
    channels: Channels
    samples: Samples = ()
    threads: int = 1
    gradients: Gradients | None = None
    consumers: Mapping[str, Mapping[int, Consumer]] = field(default_factory=dict)
    labels: Array | None = None
    seed: int = 0


Score = Callable[[Evidence], dict[str, Ranking]]


def ranked(scores: Doubles) -> Ranking:
    """Lowest score first; loss is the share of the group's sum of scores that has gone."""
    order = np.argsort(scores, kind="stable")
    total = max(float(np.abs(scores).sum()), 1e-30)
    loss = np.concatenate([[0.0], np.cumsum(np.abs(scores[order]))]) / total
    return Ranking(tuple(order.tolist()), tuple(loss.tolist()), tuple(scores.tolist()))


def filters(evidence: Evidence, group: Group, values: Mapping[int, Array] | None = None) -> list[Array]:
    """Per producer [width, values of a filter]. values: by tensor index, in place of the weights."""
    graph, found = evidence.graph, []
    for i in group.producers:
        op = graph.main.ops[i]
        index = op.inputs[1]
        classes = evidence.channels.of[op.outputs[0]]
        data = data_of(graph.main.tensors[index]) if values is None else values[index]
        rows = np.asarray(data, np.float64).reshape(len(data), -1)
        place = {c: n for n, c in reversed(list(enumerate(classes.tolist())))}
        found.append(rows[[place[c] for c in group.classes.tolist()]])
    return found


def _norm(power: int) -> Score:
    def score(evidence: Evidence) -> dict[str, Ranking]:
        rankings = {}
        for group in evidence.channels.groups:
            joined = np.concatenate(filters(evidence, group), axis=1)
            rankings[group.name] = ranked(np.linalg.norm(joined, power, axis=1))
        return rankings

    return score


def _taylor(evidence: Evidence) -> dict[str, Ranking]:
    if evidence.gradients is None:
        return _saliency(evidence)
    by_name = evidence.gradients(evidence.graph)
    tensors = evidence.graph.main.tensors
    slopes = {i: by_name[t.name] for i, t in enumerate(tensors) if t.is_constant and t.name in by_name}
    rankings = {}
    for group in evidence.channels.groups:
        missing = [i for i in group.producers if evidence.graph.main.ops[i].inputs[1] not in slopes]
        if missing:
            raise UsageError(f"there are no gradients of the weights that make '{group.name[:120]}'")
        pairs = zip(filters(evidence, group), filters(evidence, group, slopes), strict=True)
        rankings[group.name] = ranked(np.abs(sum((w * g).sum(axis=1) for w, g in pairs)))
    return rankings


def _saliency(evidence: Evidence) -> dict[str, Ranking]:
    """Of the channels where layers read them."""
    if not len(evidence.samples):
        raise UsageError("the score 'taylor' needs samples", hint="samples=..., gradients=..., or another score")
    from edgeloop_converters.passes.pruning.saliency import saliency

    places = {group.name: read_tensors(evidence, group) for group in evidence.channels.groups}
    tensors = evidence.graph.main.tensors
    names = list(dict.fromkeys(tensors[i].name for read in places.values() for i in read))
    found = saliency(evidence.graph, names, evidence.samples, evidence.labels, seed=evidence.seed)
    return {
        name: ranked(np.sum([found[tensors[i].name][at] for i, at in read.items()], axis=0))
        for name, read in places.items()
    }


def read_tensors(evidence: Evidence, group: Group) -> dict[int, list[int]]:
    """Tensors through which layers read the group -> position in them of each of its channels."""
    found = {}
    for i in group.consumers:
        op = evidence.graph.main.ops[i]
        index = op.inputs[2 if op.name == "TRANSPOSE_CONV" else 0]
        place = {c: n for n, c in reversed(list(enumerate(evidence.channels.of[index].tolist())))}
        found[index] = [place[c] for c in group.classes.tolist()]
    return found


def _over_values(measure: Callable[[Array], Array]) -> Score:
    """Mean over samples, positions and reading tensors of `measure` of the values."""

    def score(evidence: Evidence) -> dict[str, Ranking]:
        places = {group.name: read_tensors(evidence, group) for group in evidence.channels.groups}
        wanted = {i: np.zeros(0) for read in places.values() for i in read}
        sums = dict.fromkeys(wanted, np.zeros(1))
        for found in channel_values(evidence.graph, wanted, evidence.samples, evidence.threads):
            for i, values in found.items():
                sums[i] = sums[i] + measure(values).mean(axis=0, dtype=np.float64)
        count = len(evidence.samples)
        return {
            name: ranked(np.mean([sums[i][at] / count for i, at in read.items()], axis=0))
            for name, read in places.items()
        }

    return score


def covariances(evidence: Evidence) -> dict[str, Doubles]:
    """Of each group's channels where the first layer reads them: second moments with a one, [width + 1, width + 1]."""
    places = {g.name: next(iter(read_tensors(evidence, g).items())) for g in evidence.channels.groups}
    sums = {g.name: np.zeros((g.width + 1, g.width + 1)) for g in evidence.channels.groups}
    wanted = {index: np.zeros(0) for index, _ in places.values()}
    for found in channel_values(evidence.graph, wanted, evidence.samples, evidence.threads):
        for name, (index, at) in places.items():
            values = found[index][:, at].astype(np.float64)
            joined = np.concatenate([values, np.ones((len(values), 1))], axis=1)
            sums[name] += joined.T @ joined / len(values)
    return {name: total / len(evidence.samples) for name, total in sums.items()}


def explained(moments: Doubles) -> tuple[Doubles, Doubles]:
    """(share [i, j] of channel i's variance that channel j explains, 0 on the diagonal; covariance [i, j])."""
    mean = moments[-1, :-1]
    covariance = moments[:-1, :-1] - np.outer(mean, mean)
    variance = np.maximum(np.diag(covariance), 1e-12)
    share = np.square(covariance) / np.outer(variance, variance)
    np.fill_diagonal(share, 0.0)
    return np.minimum(share, 1.0), covariance


def _correlation(evidence: Evidence) -> dict[str, Ranking]:
    rankings = {}
    for name, moments in covariances(evidence).items():
        share, covariance = explained(moments)
        variance = np.maximum(np.diag(covariance), 0.0)
        lost = (1 - share) * variance[:, None]
        live, order, loss = np.ones(len(variance), bool), [], [0.0]
        while live.sum() > 1:
            least = np.where(live[:, None] & live[None, :], lost, np.inf)
            np.fill_diagonal(least, np.inf)
            gone = int(np.argmin(least.min(axis=1)))
            order.append(gone)
            loss.append(loss[-1] + float(least[gone].min()) / max(float(variance.sum()), 1e-30))
            live[gone] = False
        rankings[name] = Ranking(tuple(order), tuple(loss), tuple((1 - share.max(axis=1)).tolist()))
    return rankings


def _reconstruction(evidence: Evidence) -> dict[str, Ranking]:
    """A group whose readers are no least-squares problem goes by its norms, at their share of everything."""
    rankings = _norm(2)(evidence)
    for group in evidence.channels.groups:
        readers = evidence.consumers.get(group.name)
        if readers:
            found = eliminate(list(readers.values()), fewest=max(1, group.width // 8))
            steps = dict(zip(found.order, np.diff(found.loss).tolist(), strict=True))
            values = tuple(steps.get(i, 1.0) for i in range(group.width))
            rankings[group.name] = Ranking(found.order, found.loss, values)
    return rankings


SCORES: Mapping[str, Score] = {
    "l1": _norm(1),
    "l2": _norm(2),
    "activation": _over_values(np.abs),
    "apoz": _over_values(lambda values: values != 0),
    "taylor": _taylor,
    "correlation": _correlation,
    "reconstruction": _reconstruction,
}
