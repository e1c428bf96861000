"""The last layer of a classifier, fitted to the whole model's probabilities on unlabelled samples.

Least squares weighs all scores alike; what is asked for is the class. With the layers before it fixed, the layer that
makes the scores of a softmax is multinomial logistic regression on soft targets: convex (`passes.logistic`). It starts
at the least-squares weights, and a fifth of the samples judges whether it stays. The temperature (Hinton et al. 2015)
keeps what the whole model says of the classes that it does not choose.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeloop.graph import Graph, Op
from edgeloop_converters.passes.logistic import fit_soft, softmax
from edgeloop_converters.passes.pruning.consumers import matrix_of, put_matrix
from edgeloop_converters.passes.pruning.walk import Walk

TEMPERATURE = 2.0
_STEPS = 60
_HELD_OUT = 5  # one in so many
_FEWEST_PER_CLASS = 20


def refit_answers(whole: Walk, narrowed: Walk, graph: Graph, samples: int) -> int:
    """Sets the weights of such layers of `graph`; how many got some. whole: of the model it was made from; narrowed: of
    `graph` as it is now.
    """
    count, main = 0, graph.main
    for scores, op, beta in _last_layers(graph):
        classes = main.tensors[op.outputs[0]].shape[-1]
        if samples < _FEWEST_PER_CLASS * classes:
            continue
        (wanted,) = whole.stacked([scores])
        (features,) = narrowed.stacked([main.tensors[op.inputs[0]].name])
        sharpness = beta / TEMPERATURE
        targets = softmax(sharpness * wanted.reshape(samples, -1).astype(np.float64))
        before = matrix_of(graph, op)
        held = np.arange(samples) % _HELD_OUT == 0
        weights, bias = fit_soft(
            features.reshape(samples, -1), targets, np.flatnonzero(~held), np.flatnonzero(held),
            (sharpness * before[:-1].T, sharpness * before[-1]), steps=_STEPS,
        )  # fmt: skip
        after = np.concatenate([weights.T, bias[None]]) / sharpness
        if not np.allclose(after, before):
            put_matrix(graph, op, after)
            count += 1
    return count


def _last_layers(graph: Graph) -> Iterator[tuple[str, Op, float]]:
    """Of every output that is a softmax over the scores of a dense layer: (their name, that layer, the softmax's
    beta)."""
    main = graph.main
    makers = {i: op for op in main.ops for i in op.outputs}
    for index in main.outputs:
        top = makers.get(index)
        if top is None or top.name != "SOFTMAX":
            continue
        scores = top.inputs[0]
        op, shape = makers.get(scores), main.tensors[scores].shape
        if op is None or op.name != "FULLY_CONNECTED" or len(shape) != 2 or shape[0] != 1:
            continue
        weights, source = graph.constant(op, 1), main.tensors[op.inputs[0]]
        readers = sum(scores in other.inputs for other in main.ops)
        if weights is None or op.option("fusedActivationFunction") or readers != 1 or scores in main.outputs:
            continue
        if source.element_count == weights.shape[-1]:
            yield main.tensors[scores].name, op, float(getattr(top.options, "beta", 1.0) or 1.0)
