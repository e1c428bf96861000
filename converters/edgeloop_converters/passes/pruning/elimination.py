"""Which channels a layer can best do without, when its other weights may answer: greedy backward elimination.

A consumer computes Y = X W. Without the columns S of X, the least-squares weights of what is left lose exactly
tr(W_S^T (H^-1)_SS^-1 W_S), H = X^T X, where W are the least-squares weights so far (the Schur complement of a block
inverse; for single weights it is the saliency of Optimal Brain Surgeon, Hassibi and Stork 1993). The cheapest channel
goes, H^-1 and W are brought up to date, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

DAMPING = 1e-5


@dataclass(frozen=True)
class Consumer:
    """One reader of a group of channels.

    moments [columns, columns]: X^T X over rows of its input, the last column being ones. weights [columns, outputs],
    with the bias last. blocks [channels, columns of one channel]: which columns go with a channel; columns in no block
    stay.
    """

    moments: Doubles
    weights: Doubles
    blocks: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Elimination:
    """order: channels, the first to go first. loss [len(order) + 1]: error after so many have gone, as a share of what
    the consumers' outputs vary, the mean over the consumers; never falls.
    """

    order: tuple[int, ...]
    loss: tuple[float, ...]


def eliminate(consumers: Sequence[Consumer], fewest: int = 1) -> Elimination:
    """Down to `fewest` channels. All consumers have as many blocks."""
    state = [_State(consumer) for consumer in consumers]
    channels = consumers[0].blocks.shape[0]
    live, order, loss = np.ones(channels, bool), [], [0.0]
    while live.sum() > max(1, fewest):
        costs = np.mean([s.costs() for s in state], axis=0)
        costs[~live] = np.inf
        worst = int(np.argmin(costs))
        order.append(worst)
        loss.append(loss[-1] + max(float(costs[worst]), 0.0))
        live[worst] = False
        for s in state:
            s.remove(worst)
    return Elimination(tuple(order), tuple(loss))


class _State:
    """H^-1 and W of one consumer as channels go."""

    def __init__(self, consumer: Consumer) -> None:
        self._blocks = consumer.blocks
        moments, columns = consumer.moments, len(consumer.moments)
        damped = moments + np.eye(columns) * (DAMPING * max(float(np.trace(moments)) / columns, 1e-12))
        self._inverse: Doubles = np.asarray(np.linalg.inv(damped), np.float64)
        self._weights: Doubles = consumer.weights.astype(np.float64).copy()
        mean = moments[-1] / max(float(moments[-1, -1]), 1.0)
        centred = moments - moments[-1, -1] * np.outer(mean, mean)
        varies = np.einsum("ko,kl,lo->", consumer.weights, centred, consumer.weights, optimize=True)
        self._varies = max(float(varies), 1e-12)

    def costs(self) -> Doubles:
        """[channels] What each would add to the error; of one that has gone, nothing sensible."""
        own = self._inverse[self._blocks[:, :, None], self._blocks[:, None, :]]
        tiny = 1e-12 * np.eye(own.shape[-1])
        weights = self._weights[self._blocks]
        solved = np.linalg.solve(own + tiny, weights)
        return np.asarray((weights * solved).sum(axis=(1, 2)) / self._varies)

    def remove(self, channel: int) -> None:
        columns = self._blocks[channel]
        across = self._inverse[:, columns]
        own = self._inverse[np.ix_(columns, columns)] + 1e-12 * np.eye(columns.size)
        self._weights -= across @ np.linalg.solve(own, self._weights[columns])
        self._inverse -= across @ np.linalg.solve(own, across.T)
        self._weights[columns] = 0.0
        self._inverse[columns] = 0.0
        self._inverse[:, columns] = 0.0
        self._inverse[columns, columns] = 1.0
