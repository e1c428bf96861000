"""A .tflite model as editable values: `Graph.read(path)`, change it, `graph.write()`."""

from edgeloop.graph.litert import make_options
from edgeloop.graph.model import Graph
from edgeloop.graph.values import NO_TENSOR, Op, Quantization, Signature, Subgraph, Tensor

__all__ = ["NO_TENSOR", "Graph", "Op", "Quantization", "Signature", "Subgraph", "Tensor", "make_options"]
