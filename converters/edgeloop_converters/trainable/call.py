"""One op as the function that builds it sees it.

Batch free: a value that depends on the model's inputs has its samples one after another along its first axis. Declared
as [k, ...], it is [batch * k, ...] here. A reshape then stays a reshape, and where the first axis only comes along,
nothing has to be done at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from edgeloop.graph import Op

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """inputs: tensors of TensorFlow, None for one left out. static: values known beforehand, by position.

    shapes, outputs: as the file declares them, of inputs and outputs. batched: which inputs depend on the model's
    inputs. exact: all inputs have their declared shapes; else the batched ones have `batch` of them along axis 0.
    dtype: of the first output.
    """

    op: Op
    inputs: tuple[Any, ...]
    static: tuple[Array | None, ...]
    shapes: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    batched: tuple[bool, ...]
    exact: bool
    dtype: str = "float32"

    def constant(self, position: int) -> Array:
        """A value that the table says is known beforehand."""
        value = self.static[position]
        assert value is not None
        return value

    def integers(self, position: int) -> list[int]:
        return [int(v) for v in self.constant(position).reshape(-1)]

    def given(self, position: int) -> bool:
        return position < len(self.inputs) and self.inputs[position] is not None

    def out_shape(self, position: int = 0) -> list[int]:
        """Of an output, with -1 for an axis 0 that holds the batch."""
        shape = list(self.outputs[position])
        return shape if self.exact else [-1, *shape[1:]]


def broadcasts(call: Call) -> bool:
    """Whether numpy's broadcasting does not touch the first axis."""
    out = call.outputs[0]
    return bool(out) and all(
        shape[:1] == out[:1] and len(shape) == len(out)
        if batched
        else len(shape) < len(out) or shape[:1] == (1,)
        for shape, batched in zip(call.shapes, call.batched, strict=True)
    )  # fmt: skip


def only_first(call: Call) -> bool:
    """Only the first input depends on the model's inputs, and its first axis comes along."""
    return not any(call.batched[1:]) and _kept(call, 0)


def only_third(call: Call) -> bool:
    """`only_first` for TRANSPOSE_CONV."""
    return not any(call.batched[:2]) and not any(call.batched[3:]) and _kept(call, 2)


def regroups(call: Call) -> bool:
    """The elements stay in order, whatever becomes of the axes."""
    return not any(call.batched[1:]) and bool(call.shapes[0]) and bool(call.outputs[0])


def _kept(call: Call, position: int) -> bool:
    return bool(call.outputs[0]) and call.shapes[position][:1] == call.outputs[0][:1]


def axis_of(axis: int, rank: int) -> int:
    return axis + rank if axis < 0 else axis
