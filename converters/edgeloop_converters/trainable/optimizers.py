"""Adam and SGD by TensorFlow's own kernels, with slots that a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeloop_converters.trainable.options import TrainingOptions


class Adam:
    """Kingma and Ba 2015, algorithm 1, with the epsilon that Keras takes."""

    BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7

    def __init__(self, tf: Any, variables: Sequence[Any], options: TrainingOptions) -> None:
        self._tf, self._variables = tf, variables
        zeros = [tf.zeros_like(v) for v in variables]
        self._first, self._second = [tf.Variable(z) for z in zeros], [tf.Variable(z) for z in zeros]
        self._powers = tf.Variable([1.0, 1.0])
        self.slots: Mapping[str, Any] = {
            "powers": self._powers,
            **{f"first/{i}": slot for i, slot in enumerate(self._first)},
            **{f"second/{i}": slot for i, slot in enumerate(self._second)},
        }

    def apply(self, gradients: Sequence[Any], rate: Any) -> None:
        self._powers.assign(self._powers * [self.BETA_1, self.BETA_2])
        for variable, m, v, gradient in zip(self._variables, self._first, self._second, gradients, strict=True):
            if gradient is not None:
                self._tf.raw_ops.ResourceApplyAdam(
                    var=variable.handle, m=m.handle, v=v.handle, beta1_power=self._powers[0],
                    beta2_power=self._powers[1], lr=rate, beta1=self.BETA_1, beta2=self.BETA_2, epsilon=self.EPSILON,
                    grad=gradient,
                )  # fmt: skip


class Sgd:
    """Stochastic gradient descent with Nesterov's momentum."""

    def __init__(self, tf: Any, variables: Sequence[Any], options: TrainingOptions) -> None:
        self._tf, self._variables, self._momentum = tf, variables, options.momentum
        self._moments = [tf.Variable(tf.zeros_like(v)) for v in variables]
        self.slots: Mapping[str, Any] = {f"moment/{i}": slot for i, slot in enumerate(self._moments)}

    def apply(self, gradients: Sequence[Any], rate: Any) -> None:
        for variable, moment, gradient in zip(self._variables, self._moments, gradients, strict=True):
            if gradient is not None:
                self._tf.raw_ops.ResourceApplyKerasMomentum(
                    var=variable.handle, accum=moment.handle, lr=rate, grad=gradient, momentum=self._momentum,
                    use_nesterov=self._momentum > 0,
                )  # fmt: skip


def make_optimizer(tf: Any, variables: Sequence[Any], options: TrainingOptions) -> Adam | Sgd:
    makers: Mapping[str, type[Adam] | type[Sgd]] = {"adam": Adam, "sgd": Sgd}
    return makers[options.optimizer](tf, variables, options)


def regularized(tf: Any, gradients: Sequence[Any], variables: Sequence[Any], options: TrainingOptions) -> list[Any]:
    """Gradients of loss + l2 * sum(w^2) + l1 * sum(|w|) over weights of more than one axis, clipped by their norm."""
    result = []
    for gradient, variable in zip(gradients, variables, strict=True):
        if gradient is not None and variable.shape.rank > 1:
            if options.l2:
                gradient = gradient + 2 * options.l2 * variable
            if options.l1:
                gradient = gradient + options.l1 * tf.sign(variable)
        result.append(gradient)
    if options.clip_norm:
        there = [g for g in result if g is not None]
        clipped = iter(tf.clip_by_global_norm(there, options.clip_norm)[0])
        result = [None if g is None else next(clipped) for g in result]
    return result
