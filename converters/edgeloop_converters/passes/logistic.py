"""Multinomial logistic regression on soft targets: a convex problem, so the answer does not depend on how it is sought.

    min over W, b of   mean_i H(t_i, softmax(W x_i + b)) + ridge / 2 * |W - W0|^2

with W0 the weights to start from, else 0, and H the cross-entropy; its gradient by the scores is (softmax(z) - t) / n
(Bishop 2006, section 4.3.4, with soft t).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]

_RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_STEPS = 300


def softmax(scores: Doubles) -> Doubles:
    """Over the last axis."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def fit_soft(
    features: Array,
    targets: Doubles,
    learnt: Array,
    held: Array,
    start: tuple[Doubles, Doubles] | None = None,
    *,
    steps: int = _STEPS,
) -> tuple[Doubles, Doubles]:
    """(W [classes, columns], b [classes]) for features [samples, columns] and probabilities [samples, classes].

    learnt, held: which samples are fitted, and which choose the ridge among a few. Columns are brought to one size
    before, so that the ridge weighs them alike. start: comes back where no fit is better on `held`.
    """
    columns = features.astype(np.float64)
    middle, spread = columns[learnt].mean(axis=0), columns[learnt].std(axis=0)
    spread = np.where(spread > 1e-9 * max(1.0, float(np.abs(middle).max(initial=0.0))), spread, np.inf)
    scaled = (columns - middle) / spread
    best: tuple[float, Doubles, Doubles] | None = None
    weights, bias = np.zeros((targets.shape[1], columns.shape[1])), np.zeros(targets.shape[1])
    if start is not None:
        weights, bias = start[0] * np.where(np.isfinite(spread), spread, 0.0), start[1] + start[0] @ middle
        best = (cross_entropy(columns[held] @ start[0].T + start[1], targets[held]), weights, bias)
    near = weights
    for ridge in reversed(_RIDGES):  # each starts where the stiffer one ended
        weights, bias = _minimum(scaled[learnt], targets[learnt], ridge, near, (weights, bias), steps)
        loss = cross_entropy(scaled[held] @ weights.T + bias, targets[held])
        if best is None or loss < best[0]:
            best = (loss, weights, bias)
        elif start is not None:
            break
    assert best is not None
    if start is not None and best[1] is near:
        return start
    found = best[1] / spread
    return found, best[2] - found @ middle


def cross_entropy(scores: Doubles, targets: Doubles) -> float:
    """Mean over the rows."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-(targets * logs).sum(axis=1).mean())


def _minimum(
    columns: Doubles, targets: Doubles, ridge: float, near: Doubles, start: tuple[Doubles, Doubles], steps: int
) -> tuple[Doubles, Doubles]:
    from scipy.optimize import minimize

    count, (weights, bias) = len(columns), start
    size = weights.size

    def loss(flat: Doubles) -> tuple[float, Doubles]:
        w, b = flat[:size].reshape(weights.shape), flat[size:]
        scores = columns @ w.T + b
        off = (softmax(scores) - targets) / count
        value = cross_entropy(scores, targets) + 0.5 * ridge * float(np.square(w - near).sum())
        return value, np.concatenate([(off.T @ columns + ridge * (w - near)).ravel(), off.sum(axis=0)])

    first = np.concatenate([weights.ravel(), bias])
    found = minimize(loss, first, jac=True, method="L-BFGS-B", options={"maxiter": steps}).x
    return found[:size].reshape(weights.shape), found[size:]
