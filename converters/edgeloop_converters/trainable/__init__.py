"""A float Graph as a differentiable TensorFlow function with variables, how it is trained, and back to a Graph.

TensorFlow is imported by what runs, never by importing this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.lazy import lazy_names

if TYPE_CHECKING:
    from edgeloop_converters.trainable.augmenting import chained, flips_and_shifts, mixed
    from edgeloop_converters.trainable.data import Batch, DatasetData, TrainingData, training_data
    from edgeloop_converters.trainable.graph import TrainableGraph
    from edgeloop_converters.trainable.history import History
    from edgeloop_converters.trainable.loop import train
    from edgeloop_converters.trainable.options import TrainingOptions

__all__ = [
    "Batch",
    "DatasetData",
    "History",
    "TrainableGraph",
    "TrainingData",
    "TrainingOptions",
    "chained",
    "flips_and_shifts",
    "mixed",
    "train",
    "training_data",
]

_HOMES = {
    "Batch": ".data",
    "DatasetData": ".data",
    "TrainingData": ".data",
    "training_data": ".data",
    "chained": ".augmenting",
    "flips_and_shifts": ".augmenting",
    "mixed": ".augmenting",
    "TrainableGraph": ".graph",
    "History": ".history",
    "train": ".loop",
    "TrainingOptions": ".options",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
