"""The training loop: any learner, any data; it can be killed at any point and goes on from its last checkpoint."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeloop.progress import Progress, SilentProgress
from edgeloop_converters.trainable.checkpoints import Checkpoint, Checkpoints
from edgeloop_converters.trainable.data import Part, TrainingData, batch_count, batches, split
from edgeloop_converters.trainable.fingerprint import data_fingerprint
from edgeloop_converters.trainable.history import Epoch, Figures, History
from edgeloop_converters.trainable.imports import bfloat16_note, import_tensorflow
from edgeloop_converters.trainable.optimizers import make_optimizer
from edgeloop_converters.trainable.options import TrainingOptions, rate_at
from edgeloop_converters.trainable.prefetch import prefetched
from edgeloop_converters.trainable.steps import Steps

Array = npt.NDArray[Any]

STEP_BACKS = 3
FEW_SAMPLES = 100
TIME_IS_UP = "stopped: the time is up"
_RATE_AFTER_STEP_BACK = 0.3


class Learner(Protocol):
    """What is trained. variables: by gradients. state: what else changes while it learns. metrics: names of figures
    beside the loss. identity: what decides the loss, beside the weights and the data."""

    variables: Mapping[str, Any]
    state: Mapping[str, Any]
    metrics: tuple[str, ...]
    identity: str

    def loss(self, inputs: Sequence[Any], labels: Sequence[Any], seed: Any | None) -> tuple[Any, list[Any]]:
        """(loss, metrics), scalars. seed: [2] integers while it learns; None: as the model will be used."""


@dataclass
class _Place:
    """Where a training is, as a checkpoint's meta."""

    epoch: int = 0
    step: int = 0
    rate_factor: float = 1.0
    step_backs: int = 0
    sums: list[float] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    before: dict[str, float] = field(default_factory=dict)
    best_loss: float = math.inf
    best_epoch: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    stopped: str = ""


def train(
    learner: Learner, data: TrainingData, options: TrainingOptions, *, seed: int = 0, progress: Progress | None = None
) -> History:
    """Train in place; afterwards the learner has the weights with the lowest validation loss.

    A loss that is NaN or infinite goes back to the last good state at a lower rate, and ends the training there after
    the third time. Raises DataError (too few samples), UsageError (a checkpoint of another training, a full disk).
    """
    return _Training(learner, data, options, seed, progress or SilentProgress()).run()


class _Training:
    def __init__(
        self, learner: Learner, data: TrainingData, options: TrainingOptions, seed: int, progress: Progress
    ) -> None:
        tf = import_tensorflow()
        if options.precision == "bfloat16" and (note := bfloat16_note(tf)):
            progress.note(note)
        self._learner, self._options, self._seed, self._progress = learner, options, seed, progress
        self._part, self._held = split(data, options.validation, seed)
        if (count := len(self._part)) < FEW_SAMPLES:
            advice = (
                "look at the generalization gap" if len(self._held) else "and none to see the generalization gap by"
            )
            progress.note(f"only {count} sample{'s' if count > 1 else ''} to learn from: {advice}")
        self._optimizer = make_optimizer(tf, list(learner.variables.values()), options)
        self._steps = Steps(tf, learner, self._optimizer, options, self._part.read(np.zeros(1, np.int64)), data.labels)
        self._names = ("loss", *learner.metrics)
        self._per_epoch = batch_count(len(self._part), options.batch, whole=True)
        self._place, self._best = _Place(), self._kept_arrays()
        identity = self._identity(data)
        self._files = None if options.checkpoints is None else Checkpoints(Path(options.checkpoints), identity)
        self._good = self._checkpoint()

    def run(self) -> History:
        place = self._resumed()
        writer = self._writer()
        began = time.perf_counter() - place.seconds
        if not place.before and len(self._held):
            place.before = self._figures(self._held)
            place.best_loss = place.before["loss"] if math.isfinite(place.before["loss"]) else math.inf
            self._save()
        while self._place.epoch < self._options.epochs and not self._place.stopped:
            if not self._epoch():
                self._step_back()
                continue
            self._place.seconds = time.perf_counter() - began
            if self._place.step:
                self._finish_epoch(writer)
        self._restore_best()
        return self._history(self._figures(_some(self._part, len(self._held))) if len(self._held) else {})

    def _epoch(self) -> bool:
        """From where it is to the epoch's end; False where the loss was no number."""
        place, options = self._place, self._options
        label = f"epoch {place.epoch + 1}/{options.epochs}"
        source = batches(
            self._part, options.batch, seed=(self._seed, place.epoch), start=place.step, augment=options.augment
        )
        with self._progress.step(label, total=self._per_epoch) as advance, prefetched(source) as ready:
            advance(place.step)
            for batch in ready:
                if options.stop is not None and options.stop():
                    place.stopped = TIME_IS_UP
                    break
                number = place.epoch * self._per_epoch + place.step
                rate = place.rate_factor * rate_at(options, number, options.epochs * self._per_epoch, self._per_epoch)
                values = self._steps.learn(batch, rate, (self._seed, number))
                if not np.isfinite(values[0]):
                    return False
                sums = place.sums or [0.0] * len(values)
                place.sums = [a + float(b) for a, b in zip(sums, values, strict=True)]
                place.step += 1
                advance(1)
                if place.step % options.checkpoint_steps == 0 and place.step < self._per_epoch:
                    self._save()
        return True

    def _finish_epoch(self, writer: Any) -> None:
        place, options = self._place, self._options
        held = self._figures(self._held) if len(self._held) else {}
        # What the last step did shows only in a loss that is computed after it.
        after = held or self._figures(_some(self._part, self._options.batch))
        if not math.isfinite(after["loss"]):
            self._step_back()
            return
        number = place.epoch + 1
        rate = place.rate_factor * rate_at(
            options, number * self._per_epoch - 1, options.epochs * self._per_epoch, self._per_epoch
        )
        seconds = place.seconds - sum(e["seconds"] for e in place.epochs)
        means = {name: total / place.step for name, total in zip(self._names, place.sums, strict=True)}
        epoch = Epoch(number, rate, seconds, means, held)
        place.epochs.append(epoch.to_dict())
        place.epoch, place.step, place.sums = number, 0, []
        judged = held.get("loss", -math.inf)  # without a validation part the last weights are the best
        if judged < place.best_loss or not held:
            place.best_loss, place.best_epoch = judged, number
            self._best = self._kept_arrays()
        elif options.patience and number - place.best_epoch >= options.patience:
            place.stopped = f"stopped early: {options.patience} epochs without a lower validation loss"
        self._save()
        self._tell(epoch, writer)

    def _step_back(self) -> None:
        """To the last good state, at a lower rate; or to the end."""
        failed = self._place
        self._restore(self._good)
        place = self._place
        place.step_backs = failed.step_backs + 1
        place.rate_factor = failed.rate_factor * _RATE_AFTER_STEP_BACK
        place.notes, place.seconds = failed.notes, failed.seconds
        where = f"the loss became NaN or infinite in epoch {failed.epoch + 1}"
        if place.step_backs > STEP_BACKS:
            place.stopped = f"stopped: {where} after {STEP_BACKS} steps back; the last good weights were kept"
            note = place.stopped
        else:
            note = f"{where}: back to the last good state, learning rate times {_RATE_AFTER_STEP_BACK:g}"
        place.notes.append(note)
        self._progress.note(note)
        self._save()

    def _figures(self, data: TrainingData) -> dict[str, float]:
        totals = np.zeros(len(self._names))
        for batch in batches(data, self._options.batch):
            totals += np.asarray(self._steps.judge(batch), np.float64) * batch.size
        return dict(zip(self._names, (totals / len(data)).tolist(), strict=True))

    def _tell(self, epoch: Epoch, writer: Any) -> None:
        if self._options.on_epoch is not None:
            self._options.on_epoch(epoch.figures())
        if writer is not None:
            writer(epoch)

    def _writer(self) -> Any:
        if self._options.tensorboard is None:
            return None
        from edgeloop_converters.trainable.tensorboard import event_writer

        return event_writer(Path(self._options.tensorboard))

    def _history(self, training: Figures) -> History:
        place = self._place
        epochs = tuple(Epoch(**epoch) for epoch in place.epochs)
        validation = self._figures(self._held) if len(self._held) else {}
        return History(
            epochs, place.best_epoch, place.stopped, tuple(place.notes), place.before, validation, training,
            place.seconds,
        )  # fmt: skip

    def _resumed(self) -> _Place:
        found = None if self._files is None else self._files.load()
        if found is not None:
            self._restore(found)
            self._good = found
            if self._place.stopped == TIME_IS_UP:
                self._place.stopped = ""  # it has time again
            self._progress.note(f"going on after epoch {self._place.epoch}, step {self._place.step}")
        return self._place

    def _save(self) -> None:
        self._good = self._checkpoint()
        if self._files is not None:
            self._files.save(self._good)

    def _checkpoint(self) -> Checkpoint:
        arrays = {f"slot/{name}": slot.numpy() for name, slot in self._optimizer.slots.items()}
        arrays.update({f"now/{name}": array for name, array in self._kept_arrays().items()})
        arrays.update({f"best/{name}": array for name, array in self._best.items()})
        return Checkpoint(arrays, json.loads(json.dumps(asdict(self._place))))

    def _restore(self, checkpoint: Checkpoint) -> None:
        fields = _Place.__dataclass_fields__
        self._place = _Place(**json.loads(json.dumps({k: v for k, v in checkpoint.meta.items() if k in fields})))
        for name, slot in self._optimizer.slots.items():
            slot.assign(checkpoint.arrays[f"slot/{name}"])
        self._assign({name: checkpoint.arrays[f"now/{name}"] for name in self._best})
        self._best = {name: checkpoint.arrays[f"best/{name}"] for name in self._best}

    def _restore_best(self) -> None:
        self._assign(self._best)

    def _kept_arrays(self) -> dict[str, Array]:
        return {name: v.numpy() for name, v in {**self._learner.variables, **self._learner.state}.items()}

    def _assign(self, arrays: Mapping[str, Array]) -> None:
        for name, variable in {**self._learner.variables, **self._learner.state}.items():
            variable.assign(arrays[name])

    def _identity(self, data: TrainingData) -> str:
        told = {"options": self._options.described(), "seed": self._seed, "learner": self._learner.identity,
                "data": data_fingerprint(data, self._options.augment, self._progress)}  # fmt: skip
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        for name, array in self._kept_arrays().items():
            digest.update(name.encode() + array.tobytes())
        return digest.hexdigest()


def _some(part: Part, count: int) -> Part:
    """`count` samples of it, evenly over their order: data often come sorted by class."""
    return Part(part, np.linspace(0, len(part) - 1, min(count, len(part))).astype(np.int64))
