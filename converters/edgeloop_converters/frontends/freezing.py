"""A traced TensorFlow function to a .tflite, with as few copies of the weights as TensorFlow lets one have.

`TFLiteConverter` freezes into a function, which it freezes again, and rewrites the file in Python twice: 26 times the
weights for ResNet50. Here the variables become constants once, in a GraphDef that goes straight to the converter, after
the model was let go: 10 times. What TensorFlow itself calls for this is not public; `setup.cfg` pins its version.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Any


@dataclass
class Frozen:
    """graph: a GraphDef whose variables are constants. inputs, outputs: tf.TensorSpec with the names of its tensors."""

    graph: Any
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]

    def SerializeToString(self) -> bytes:
        """What the converter asks a GraphDef for; only once, because the graph is let go."""
        graph, self.graph = self.graph, None
        data: bytes = graph.SerializeToString()
        return data


def freeze(concrete: Any) -> Frozen:
    """concrete: a traced function whose variables are alive until this returns."""
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants as constants

    data = constants._FunctionConverterDataInEager(func=concrete, lower_control_flow=False, aggressive_inlining=False)
    graph, _ = constants._replace_variables_by_constants(converter_data=data)

    def described(tensor: Any) -> Any:  # the tensor itself would keep the variables
        return tf.TensorSpec(tensor.shape, tensor.dtype, name=tensor.name)

    given = len(concrete.inputs) - len(concrete.captured_inputs)  # behind them are variables and constants of the model
    inputs = tuple(described(t) for t in concrete.inputs[:given])
    return Frozen(graph, inputs, tuple(described(t) for t in concrete.outputs))


def to_tflite(frozen: Frozen) -> bytes:
    """Float .tflite. Raises TensorFlow's ConverterError for ops that have no counterpart."""
    from tensorflow.lite.python.convert import convert_graphdef

    gc.collect()
    data: bytes = convert_graphdef(frozen, frozen.inputs, frozen.outputs, allow_custom_ops=False)
    return data
