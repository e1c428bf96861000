"""Losses, as means over the samples whose label is known. Functions of TensorFlow's tensors; scores are logits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from edgeloop.errors import UsageError
from edgeloop_converters.passes.train.tasks import CLASSES, FLAGS

_TINY = 1e-12


@dataclass(frozen=True)
class SoftLabels:
    """(1 - alpha) * loss(labels) + alpha * T^2 * KL(softmax(teacher / T) || softmax(student / T)).

    Hinton, Vinyals and Dean 2015, section 2; T^2 keeps the share of both parts the same whatever T is. Without labels
    only the second part counts.
    """

    temperature: float = 4.0
    alpha: float = 0.7

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf or not 0 <= self.alpha <= 1:
            raise UsageError(
                f"soft labels: temperature {self.temperature} must be above 0 and alpha {self.alpha} from 0 to 1"
            )


def label_loss(tf: Any, kind: str, scores: Any, labels: Any) -> Any:
    """Cross-entropy of classes or flags, mean squared error of values. A class of -1 or a value of NaN is left out."""
    if kind == CLASSES:
        known = labels >= 0
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), scores)
        return _mean(tf, each, known)
    labels = tf.reshape(tf.cast(labels, tf.float32), tf.shape(scores))
    known = tf.logical_not(tf.math.is_nan(labels))
    labels = tf.where(known, labels, 0.0)
    if kind == FLAGS:
        return _mean(tf, tf.nn.sigmoid_cross_entropy_with_logits(labels, scores), known)
    return _mean(tf, tf.square(scores - labels), known)


def soft_loss(tf: Any, kind: str, scores: Any, teacher: Any, temperature: float) -> Any:
    """How far the student's scores are from the teacher's: 0 where they agree.

    Classes and flags: T^2 times the Kullback-Leibler divergence at temperature T. Values: mean squared error relative
    to the variance of the teacher's.
    """
    if kind == CLASSES:
        soft = tf.nn.softmax(teacher / temperature)
        entropy = tf.nn.softmax_cross_entropy_with_logits(soft, teacher / temperature)
        cross = tf.nn.softmax_cross_entropy_with_logits(soft, scores / temperature)
        return temperature**2 * tf.reduce_mean(cross - entropy)
    if kind == FLAGS:
        soft = tf.math.sigmoid(teacher / temperature)
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(soft, teacher / temperature)
        cross = tf.nn.sigmoid_cross_entropy_with_logits(soft, scores / temperature)
        return temperature**2 * tf.reduce_mean(cross - entropy)
    return relative_error(tf, scores, teacher)


def relative_error(tf: Any, values: Any, wanted: Any) -> Any:
    """Mean squared error over the variance of what is wanted, in the batch."""
    return tf.reduce_mean(tf.square(values - wanted)) / (tf.math.reduce_variance(wanted) + _TINY)


def accuracy(tf: Any, kind: str, scores: Any, labels: Any) -> Any:
    """Share of right classes or flags; of values, the root mean squared error."""
    if kind == CLASSES:
        right = tf.equal(tf.cast(tf.argmax(scores, axis=-1), labels.dtype), labels)
        return _mean(tf, tf.cast(right, tf.float32), labels >= 0)
    labels = tf.reshape(tf.cast(labels, tf.float32), tf.shape(scores))
    known = tf.logical_not(tf.math.is_nan(labels))
    if kind == FLAGS:
        return _mean(tf, tf.cast(tf.equal(scores > 0, labels > 0.5), tf.float32), known)
    return tf.sqrt(_mean(tf, tf.square(scores - tf.where(known, labels, 0.0)), known))


def agreement(tf: Any, kind: str, scores: Any, teacher: Any) -> Any:
    """Share of classes or flags as the teacher has them; of values, the relative error."""
    if kind == CLASSES:
        same = tf.equal(tf.argmax(scores, axis=-1), tf.argmax(teacher, axis=-1))
        return tf.reduce_mean(tf.cast(same, tf.float32))
    if kind == FLAGS:
        return tf.reduce_mean(tf.cast(tf.equal(scores > 0, teacher > 0), tf.float32))
    return relative_error(tf, scores, teacher)


def _mean(tf: Any, each: Any, known: Any) -> Any:
    weights = tf.cast(known, tf.float32)
    return tf.reduce_sum(each * weights) / tf.maximum(tf.reduce_sum(weights), 1.0)
