"""What the loss would change by, to first order, if a channel were zero: Taylor expansion with gradients.

With labels: the mean over samples of |sum over positions of a * dL/da|, L the cross-entropy or squared error
(Molchanov et al. 2017, formula 5, without its mean over positions). Without: where a model is its own teacher, the
gradient of any distance to itself is zero; the first term that is left is half the squared change of the outputs,
|J a|^2, J their Jacobian. It is estimated as E[(r J a)^2] over random signs r (Hutchinson 1990), one draw per sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop_converters.passes.pruning.seen import Samples

Doubles = npt.NDArray[np.float64]

_BATCH = 32


def saliency(
    graph: Graph, names: Sequence[str], samples: Samples, labels: Any = None, *, seed: int = 0
) -> Mapping[str, Doubles]:
    """Name of a tensor -> [channels], its last axis. samples: as `prune` takes them; labels: of the first output.

    Raises MissingExtraError without TensorFlow, UsageError for models that cannot be differentiated, DataError for
    labels that do not fit.
    """
    from edgeloop_converters.passes.train.losses import label_loss
    from edgeloop_converters.passes.train.tasks import goals_of
    from edgeloop_converters.trainable import TrainableGraph, training_data
    from edgeloop_converters.trainable.data import batches
    from edgeloop_converters.trainable.imports import import_tensorflow

    tf = import_tensorflow("the score 'taylor'")
    data = training_data(samples, None if labels is None else np.asarray(labels))
    trainable = TrainableGraph(graph)
    goals = goals_of(trainable.graph, (), data.labels)
    learnt = [(goal, goal.labels) for goal in goals if goal.labels is not None]
    random = np.random.default_rng([seed, 0x7A])
    sums: dict[str, Doubles] = {}
    for batch in batches(data, _BATCH):
        inputs = [tf.constant(array) for array in batch.inputs]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            found = trainable.values(inputs, [*names, *(goal.scores for goal in goals)])
            values, scores = found[: len(names)], found[len(names) :]
            by_goal = dict(zip(goals, scores, strict=True))
            if learnt:
                losses = [
                    goal.weight * label_loss(tf, goal.kind, by_goal[goal] * goal.sharpness, batch.labels[own])
                    for goal, own in learnt
                ]
                total = tf.add_n(losses) * float(batch.size)  # label_loss is a mean over the batch
            else:
                signs = [random.choice([-1.0, 1.0], tuple(score.shape)).astype(np.float32) for score in scores]
                total = tf.add_n([tf.reduce_sum(s * r) for s, r in zip(scores, signs, strict=True)])
        for name, value, slope in zip(names, values, tape.gradient(total, values), strict=True):
            if slope is None:
                raise UsageError(f"no gradient reaches '{name[:120]}'", hint="one of the other scores")
            at_once = tf.reshape(value * slope, [batch.size, -1, value.shape[-1]])
            change = tf.reduce_sum(at_once, axis=1).numpy().astype(np.float64)
            each = np.abs(change) if learnt else np.square(change) / 2
            sums[name] = sums.get(name, 0.0) + each.sum(axis=0)
    return {name: total / len(data) for name, total in sums.items()}
