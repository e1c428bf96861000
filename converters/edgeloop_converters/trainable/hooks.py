"""What may be done to values on their way through a TrainableGraph: fake quantization, dropout, another format."""

from __future__ import annotations

from typing import Any

from edgeloop.graph import Op


class Hooks:
    """Leaves everything as it is; subclasses change what they are for. Values are TensorFlow's."""

    def weight(self, name: str, value: Any) -> Any:
        """A trained constant."""
        return value

    def constant(self, value: Any) -> Any:
        """A float constant that is not trained."""
        return value

    def computed(self, name: str, value: Any) -> Any:
        """What depends on the inputs: a model input, or what an op gave."""
        return value

    def operand(self, op: Op, position: int, value: Any) -> Any:
        """An input of an op, just before it is used there; None for one left out."""
        return value


class Chain(Hooks):
    """Several, one after another."""

    def __init__(self, *parts: Hooks) -> None:
        self._parts = parts

    def weight(self, name: str, value: Any) -> Any:
        for part in self._parts:
            value = part.weight(name, value)
        return value

    def constant(self, value: Any) -> Any:
        for part in self._parts:
            value = part.constant(value)
        return value

    def computed(self, name: str, value: Any) -> Any:
        for part in self._parts:
            value = part.computed(name, value)
        return value

    def operand(self, op: Op, position: int, value: Any) -> Any:
        for part in self._parts:
            value = part.operand(op, position, value)
        return value


class Dropout(Hooks):
    """Before every FULLY_CONNECTED op, a share `rate` of its inputs is set to 0 and the rest scaled up (Srivastava et
    al. 2014). seed: a [2] integer tensor; the same one drops the same inputs."""

    def __init__(self, tf: Any, rate: float, seed: Any) -> None:
        self._tf, self._rate, self._seed, self._count = tf, rate, seed, 0

    def operand(self, op: Op, position: int, value: Any) -> Any:
        if op.name != "FULLY_CONNECTED" or position != 0:
            return value
        self._count += 1
        return self._tf.nn.experimental.stateless_dropout(value, self._rate, seed=self._seed + self._count)


class Bfloat16(Hooks):
    """Computes in bfloat16; variables, and so what is learnt, stay float32."""

    def __init__(self, tf: Any) -> None:
        self._tf = tf

    def weight(self, name: str, value: Any) -> Any:
        return self._tf.cast(value, self._tf.bfloat16)

    def constant(self, value: Any) -> Any:
        return self._tf.cast(value, self._tf.bfloat16)

    def computed(self, name: str, value: Any) -> Any:
        return self._tf.cast(value, self._tf.bfloat16) if value.dtype == self._tf.float32 else value
