"""The two functions that TensorFlow compiles: learning from a batch, and judging one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeloop_converters.trainable.data import Batch
from edgeloop_converters.trainable.optimizers import Adam, Sgd, regularized
from edgeloop_converters.trainable.options import TrainingOptions

if TYPE_CHECKING:
    from edgeloop_converters.trainable.loop import Learner

Array = npt.NDArray[Any]


class Steps:
    """example: one batch of the model's inputs; labels: of all samples. Both only for their dtypes and shapes."""

    def __init__(
        self,
        tf: Any,
        learner: Learner,
        optimizer: Adam | Sgd,
        options: TrainingOptions,
        example: Sequence[Array],
        labels: Sequence[Array],
    ) -> None:
        self._tf = tf
        signature = (
            tuple(tf.TensorSpec([None, *a.shape[1:]], a.dtype) for a in example),
            tuple(tf.TensorSpec([None, *a.shape[1:]], a.dtype) for a in labels),
        )
        variables = list(learner.variables.values())

        def learn(inputs: Any, labels: Any, rate: Any, seed: Any) -> Any:
            with tf.GradientTape() as tape:
                loss, metrics = learner.loss(inputs, labels, seed)
            gradients = tape.gradient(loss, variables)
            optimizer.apply(regularized(tf, gradients, variables, options), rate)
            return tf.stack([loss, *metrics])

        def judge(inputs: Any, labels: Any) -> Any:
            loss, metrics = learner.loss(inputs, labels, None)
            return tf.stack([loss, *metrics])

        numbers = (tf.TensorSpec([], tf.float32), tf.TensorSpec([2], tf.int32))
        # Concrete at once: TensorFlow takes the second training of a process for a function traced too often.
        self._learn = tf.function(
            learn, input_signature=(*signature, *numbers), autograph=False
        ).get_concrete_function()
        self._judge = tf.function(judge, input_signature=signature, autograph=False).get_concrete_function()

    def learn(self, batch: Batch, rate: float, seed: tuple[int, int]) -> npt.NDArray[np.float32]:
        """[loss, metrics ...] before the variables changed."""
        inputs, labels = self._tensors(batch)
        values = self._learn(inputs, labels, self._tf.constant(rate, self._tf.float32), self._seed(seed))
        return np.asarray(values)

    def judge(self, batch: Batch) -> npt.NDArray[np.float32]:
        return np.asarray(self._judge(*self._tensors(batch)))

    def _tensors(self, batch: Batch) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        convert = self._tf.convert_to_tensor
        return tuple(convert(a) for a in batch.inputs), tuple(convert(a) for a in batch.labels)

    def _seed(self, seed: tuple[int, int]) -> Any:
        return self._tf.constant([value % (1 << 31) for value in seed], self._tf.int32)
