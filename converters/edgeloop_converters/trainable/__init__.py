"""A float Graph as a differentiable TensorFlow function with variables, how it is trained, and back to a Graph.

TensorFlow is imported by what runs, never by importing this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.lazy import lazy_names

if TYPE_CHECKING:
    from edgeloop_converters.trainable.graph import TrainableGraph

__all__ = ["TrainableGraph"]

_HOMES = {
    "TrainableGraph": ".graph",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
