"""The training loop: what it learns, what it chooses by, and what it does about trouble."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.errors import DataError, RefusedError, UsageError
from edgeloop.graph import Graph
from edgeloop.progress import SilentProgress
from edgeloop_converters.passes.train import fine_tune
from edgeloop_converters.trainable import TrainingOptions, train, training_data
from edgeloop_converters.trainable.checkpoints import FILE
from edgeloop_converters.trainable.data import batches, split
from support.interpreting import run
from support.learning import blobs, labels_of, pictures
from support.tiny_models import TinyBuilder, tiny_cnn, tiny_mlp

pytestmark = pytest.mark.tensorflow

OPTIONS = TrainingOptions(epochs=6, batch=16, rate=2e-2, validation=0.25)


def fitted(
    options: TrainingOptions = OPTIONS, seed: int = 0, progress: SilentProgress | None = None
) -> tuple[Graph, Any]:
    samples, classes = blobs(200)
    model = Graph.read(tiny_mlp())
    return fine_tune(model, samples=samples, labels=classes, options=options, seed=seed, progress=progress)


def test_it_learns_and_the_file_answers_as_what_was_trained() -> None:
    graph, report = fitted()
    samples, classes = blobs(100, seed=9)
    assert np.mean(labels_of(graph.write(), samples) == classes) > 0.9
    assert report.after["validation accuracy"] > report.before["validation accuracy"] + 0.3
    assert report.after["gap accuracy"] == pytest.approx(
        report.after["training accuracy"] - report.after["validation accuracy"]
    )
    assert "6 epochs" in report.note() and "generalization gap" in report.note()
    assert len(report.history) == 6 and {"training_loss", "validation_loss", "rate"} <= set(report.history[0])


@pytest.mark.parametrize(
    "changed",
    [
        {"optimizer": "sgd", "rate": 0.1},
        {"schedule": "step", "step_epochs": 2},
        {"schedule": "constant", "warmup_steps": 5},
        {"dropout": 0.2, "l2": 1e-4, "l1": 1e-5},
        {"clip_norm": 1.0},
        {"precision": "bfloat16"},
        {"validation": 0.0},
    ],
    ids=str,
)
def test_every_option_learns(changed: Mapping[str, Any]) -> None:
    samples, classes = blobs(100, seed=9)
    graph, _ = fitted(replace(OPTIONS, **changed))
    assert np.mean(labels_of(graph.write(), samples) == classes) > 0.8


def test_penalties_keep_weights_small() -> None:
    def size(graph: Graph) -> float:
        return sum(
            float(np.square(t.data).sum()) for t in graph.main.tensors if t.data is not None and len(t.shape) > 1
        )

    plain, penalized = (fitted(replace(OPTIONS, l2=l2))[0] for l2 in (0.0, 0.05))
    assert size(penalized) < 0.7 * size(plain)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    assert fitted()[0].write() == fitted()[0].write() != fitted(seed=1)[0].write()


def test_it_stops_early_and_keeps_the_weights_that_validated_best() -> None:
    samples, classes = blobs(40)
    random_labels = np.random.default_rng(1).integers(0, 3, len(classes))  # nothing that could be generalized
    options = TrainingOptions(epochs=200, batch=8, rate=3e-2, schedule="constant", validation=0.3, patience=3)
    _, report = fine_tune(Graph.read(tiny_mlp()), samples=samples, labels=random_labels, options=options)
    assert "stopped early: 3 epochs without a lower validation loss" in report.note()
    losses = [epoch["validation_loss"] for epoch in report.history]
    assert report.after["validation loss"] == pytest.approx(min([report.before["validation loss"], *losses]), rel=1e-5)


CHILD = """
import os, signal, sys
from pathlib import Path
from edgeloop.graph import Graph
from edgeloop_converters.passes.train import fine_tune
from edgeloop_converters.trainable import TrainingOptions, data
from support.learning import blobs
from support.tiny_models import tiny_mlp

batches, left = data.batches, [int(sys.argv[2])]
def counted(*args, **kwargs):
    for batch in batches(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch
from edgeloop_converters.trainable import loop
loop.batches = counted
samples, classes = blobs(200)
options = TrainingOptions(epochs=6, batch=16, rate=2e-2, validation=0.25, dropout=0.1, checkpoint_steps=2,
                          checkpoints=Path(sys.argv[1]))
graph, _ = fine_tune(Graph.read(tiny_mlp()), samples=samples, labels=classes, options=options)
graph.save(sys.argv[3])
"""


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TF_NUM_INTRAOP_THREADS": "1"}

    def child(folder: str, kill_after: int) -> int:
        command = [
            sys.executable,
            "-c",
            CHILD,
            str(tmp_path / folder),
            str(kill_after),
            str(tmp_path / f"{folder}.tflite"),
        ]
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode

    assert child("killed", 40) == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "killed").iterdir()] == [FILE]
    assert child("killed", -1) == 0 and child("whole", -1) == 0
    assert (tmp_path / "killed.tflite").read_bytes() == (tmp_path / "whole.tflite").read_bytes()


def test_asked_to_stop_it_ends_in_the_middle_of_an_epoch_and_goes_on_when_it_has_time_again(tmp_path: Path) -> None:
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 14  # an epoch has 9 or 10 steps

    options = replace(OPTIONS, checkpoints=tmp_path)
    _, report = fitted(replace(options, stop=stop))
    assert "stopped: the time is up" in report.note()
    assert len(report.history) == 2 and len(asked) == 15
    assert report.after["validation loss"] < report.before["validation loss"]
    _, rest = fitted(options)
    assert "stopped" not in rest.note() and len(rest.history) == 6


def test_a_finished_training_is_not_done_again_and_another_one_is_refused(tmp_path: Path) -> None:
    options = replace(OPTIONS, checkpoints=tmp_path)
    first, _ = fitted(options)
    epochs: list[Any] = []
    again, report = fitted(replace(options, on_epoch=epochs.append))
    assert again.write() == first.write() and epochs == [] and len(report.history) == 6
    with pytest.raises(UsageError, match="belongs to another training"):
        fitted(replace(options, rate=1e-3))
    (tmp_path / FILE).write_bytes(b"PK damaged")
    with pytest.raises(RefusedError, match="is no checkpoint, or damaged"):
        fitted(options)


def test_a_full_disk_is_one_line_and_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fsync(number: int) -> None:
        calls.append(number)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("edgeloop_converters.trainable.checkpoints.os.fsync", fsync)
    with pytest.raises(UsageError, match=r"cannot write checkpoint .*: No space left on device \(make room") as caught:
        fitted(replace(OPTIONS, checkpoints=tmp_path))
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    monkeypatch.undo()
    assert fitted(replace(OPTIONS, checkpoints=tmp_path))[0].write() == fitted()[0].write()


class Cliff:
    """Learns x -> 0; its loss is NaN as soon as a step was larger than `limit`."""

    metrics: tuple[str, ...] = ()
    identity = "cliff"
    state: Mapping[str, Any] = {}

    def __init__(self, limit: float) -> None:
        import tensorflow as tf

        self._tf, self._limit = tf, limit
        self.variables: Mapping[str, Any] = {"x": tf.Variable([1.0])}

    def loss(self, inputs: Sequence[Any], labels: Sequence[Any], seed: Any | None) -> tuple[Any, list[Any]]:
        x = self.variables["x"][0]
        return self._tf.where(self._tf.abs(x - 1) > self._limit, np.nan, x * x), []


def test_a_loss_that_is_no_number_goes_back_at_a_lower_rate() -> None:
    options = TrainingOptions(
        epochs=1, batch=1, rate=1.0, optimizer="sgd", momentum=0.0, schedule="constant", validation=0
    )
    learner, progress = Cliff(0.3), SilentProgress()
    history = train(learner, training_data(np.zeros((1, 1), np.float32)), options, progress=progress)
    assert not history.stopped and abs(learner.variables["x"].numpy()[0]) == pytest.approx(0.82)
    options = replace(options, epochs=2)
    history = train(Cliff(0.3), training_data(np.zeros((1, 1), np.float32)), options, progress=progress)
    assert any("back to the last good state, learning rate times 0.3" in note for note in progress.notes)


def test_a_loss_that_stays_no_number_ends_with_the_last_good_weights() -> None:
    options = TrainingOptions(
        epochs=9, batch=1, rate=1.0, optimizer="sgd", momentum=0.0, schedule="constant", validation=0
    )
    learner = Cliff(-1.0)
    history = train(learner, training_data(np.zeros((1, 1), np.float32)), options)
    assert history.stopped.startswith("stopped: the loss became NaN or infinite in epoch 1 after 3 steps back")
    assert learner.variables["x"].numpy()[0] == 1.0 and history.epochs == ()


def test_event_files_for_tensorboard_are_written(tmp_path: Path) -> None:
    import tensorflow as tf

    fitted(replace(OPTIONS, tensorboard=tmp_path / "events"))
    (file,) = (tmp_path / "events").iterdir()
    tags = {v.tag for event in tf.compat.v1.train.summary_iterator(str(file)) for v in event.summary.value}
    assert tags == {"training/loss", "training/accuracy", "validation/loss", "validation/accuracy", "rate"}


def test_the_parts_are_disjoint_and_have_the_classes_in_proportion() -> None:
    classes = np.repeat([0, 1, 2], [60, 30, 10])
    learnt, held = split(training_data(np.arange(100.0)[:, None], classes), 0.2, seed=3)
    assert sorted([*learnt.indices, *held.indices]) == list(range(100))
    assert np.bincount(held.labels[0]).tolist() == [12, 6, 2]


def test_batches_of_a_seed_are_the_same_from_any_start() -> None:
    data = training_data(np.arange(50.0)[:, None])
    whole = [b.inputs[0] for b in batches(data, 8, seed=(1, 2))]
    rest = [b.inputs[0] for b in batches(data, 8, seed=(1, 2), start=4)]
    assert len(whole) == 6 and all(np.array_equal(a, b) for a, b in zip(whole[4:], rest, strict=True))


def test_what_cannot_be_learnt_from_is_one_line() -> None:
    samples, classes = blobs(20)
    model = Graph.read(tiny_mlp())
    with pytest.raises(UsageError, match="fine-tuning needs labels"):
        fine_tune(model, samples=samples)
    with pytest.raises(DataError, match="inputs and labels have"):
        fine_tune(model, samples=samples, labels=classes[:-1])
    with pytest.raises(DataError, match="go from 0 to 3: the output has 3 classes"):
        fine_tune(model, samples=samples, labels=np.where(classes == 2, 3, classes))
    with pytest.raises(DataError, match="1 sample is too few"):
        fine_tune(model, samples=samples[:1], labels=classes[:1])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"samples": np.full((20, 10), np.nan)}, "training sample 0 holds NaN or infinity"),
        ({"samples": np.zeros((20, 7))}, r"a sample is \[7\], the model takes \[10\]"),
        ({"samples": np.full((20, 10), "a")}, "the samples are str32, not numbers"),
        ({"samples": [np.zeros((1, 10)), np.zeros((1, 9))]}, "the samples are no arrays of one shape"),
        ({"samples": "data/"}, "training data are arrays, not a str"),
        ({"labels": np.full(20, "cat")}, "labels are str96, not numbers"),
        ({"labels": np.full(20, -1)}, "all are -1, so none is known"),
        ({"labels": np.eye(3)[np.zeros(20, int)]}, "classes are whole numbers .one-hot: "),
        ({"labels": [0] * 19}, "inputs and labels have"),
    ],
)
def test_samples_and_labels_that_do_not_fit_are_one_line(changed: dict[str, Any], said: str) -> None:
    samples, classes = blobs(20)
    with pytest.raises(DataError, match=said):
        fine_tune(Graph.read(tiny_mlp()), **{"samples": samples, "labels": classes.tolist(), **changed})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dropout": 1}, "dropout is 1: it must be from 0 to below 1"),
        ({"epochs": 1.5}, "epochs is 1.5: it must be a whole number from 1"),
        ({"batch": "8"}, "batch is '8': it must be a whole number from 1"),
        ({"rate": float("nan")}, "rate is nan: it must be a number above 0"),
        ({"final": -1}, "final is -1: it must be a number from 0"),
        ({"augment": "flips"}, "augment is 'flips': it must be a function"),
    ],
)
def test_options_that_cannot_be_are_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        TrainingOptions(**given)


def test_a_checkpoint_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write checkpoint .*file/checkpoint.npz: "):
        fitted(replace(OPTIONS, checkpoints=tmp_path / "file"))


def test_pictures_and_labels_may_be_bytes_and_few_samples_are_noted() -> None:
    samples, classes = pictures(24)
    progress = SilentProgress()
    options = TrainingOptions(epochs=1, batch=8)
    made = [
        fine_tune(Graph.read(tiny_cnn()), samples=x, labels=y, options=options, progress=progress)[0].write()
        for x, y in (
            ((samples * 255).astype(np.uint8), classes.astype(np.uint8)),
            ((samples * 255).astype(np.uint8).astype(np.float64), classes),
        )
    ]
    assert made[0] == made[1]
    assert "only 22 samples to learn from: look at the generalization gap" in progress.notes


def test_a_model_of_several_samples_at_once_is_refused() -> None:
    b = TinyBuilder(0)
    model = b.finish(b.dense(b.input("features", (4, 3)), 2))
    with pytest.raises(UsageError, match=r"input 'features' is \[4, 3\]: only models of one sample at a time"):
        fine_tune(model, samples=np.zeros((8, 3), np.float32), labels=np.zeros(8, int))


def test_a_batch_of_pictures_is_changed_at_random_by_the_seed() -> None:
    from edgeloop_converters.trainable import flips_and_shifts

    given = np.random.default_rng(0).random((4, 8, 8, 3)).astype(np.float32)
    changed, again = ((flips_and_shifts(2)((given,), np.random.default_rng(1)))[0] for _ in range(2))
    assert changed.shape == given.shape and np.array_equal(changed, again) and not np.array_equal(changed, given)
    graph, _ = fine_tune(
        Graph.read(tiny_cnn()), samples=given, labels=np.arange(4),
        options=TrainingOptions(epochs=1, batch=4, validation=0, augment=flips_and_shifts(2)),
    )  # fmt: skip
    assert np.isfinite(run(graph.write())[0]).all()


def test_bfloat16_is_said_to_be_slow_where_the_cpu_does_not_have_it(tmp_path: Path) -> None:
    import tensorflow as tf

    from edgeloop_converters.trainable.imports import bfloat16_note

    info = tmp_path / "cpuinfo"
    info.write_text("flags : fpu avx2 avx512f\n")
    assert "no bfloat16 instructions" in bfloat16_note(tf, info)
    info.write_text("flags : fpu amx_bf16\n")
    assert bfloat16_note(tf, info) == "" == bfloat16_note(tf, tmp_path / "none")


def test_a_dataset_comes_through_its_contract_and_is_kept(tmp_path: Path) -> None:
    from edgeloop.contract import Contract
    from edgeloop_converters.data import open_data
    from edgeloop_converters.trainable import DatasetData

    samples, classes = blobs(30)
    np.savez(tmp_path / "data.npz", x=samples, y=classes)
    dataset = open_data(tmp_path / "data.npz")
    contract = Contract.from_dict({"inputs": [{"kind": "tensor"}], "output": {"kind": "classification"}})
    data = DatasetData(dataset, contract, tiny_mlp(), cache_bytes=10 * 40)
    for _ in range(2):
        assert np.array_equal(data.read(np.array([3, 28, 0]))[0], samples[[3, 28, 0]])
    assert np.array_equal(data.labels[0], classes)
    _, report = fine_tune(Graph.read(tiny_mlp()), samples=data, options=replace(OPTIONS, epochs=1))
    assert "validation accuracy" in report.after
