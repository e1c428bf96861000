"""Passes that train: `fine_tune` on labels, `distill` from a teacher, `qat` with the rounding that int8 will bring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.lazy import lazy_names

if TYPE_CHECKING:
    from edgeloop_converters.passes.train.learner import Hint
    from edgeloop_converters.passes.train.losses import SoftLabels
    from edgeloop_converters.passes.train.quantized import Stage, TrainedInt8, qat, train_int8
    from edgeloop_converters.passes.train.tasks import Task
    from edgeloop_converters.passes.train.tuning import distill, fine_tune

__all__ = ["Hint", "SoftLabels", "Stage", "Task", "TrainedInt8", "distill", "fine_tune", "qat", "train_int8"]

_HOMES = {
    "Hint": ".learner",
    "SoftLabels": ".losses",
    "Stage": ".quantized",
    "TrainedInt8": ".quantized",
    "qat": ".quantized",
    "train_int8": ".quantized",
    "Task": ".tasks",
    "distill": ".tuning",
    "fine_tune": ".tuning",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
