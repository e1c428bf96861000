"""Distillation: a teacher's answers instead of labels, hints, several outputs, a student of one's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeloop.errors import DataError, UsageError
from edgeloop.graph import Graph, make_options
from edgeloop_converters.passes import distill, fine_tune
from edgeloop_converters.passes.packed import run_real
from edgeloop_converters.passes.train import Hint, SoftLabels, Task
from edgeloop_converters.trainable import TrainingOptions
from support.learning import blobs, labels_of
from support.tiny_models import NONE, RELU, TinyBuilder, tiny_mlp

pytestmark = pytest.mark.tensorflow

OPTIONS = TrainingOptions(epochs=15, batch=16, rate=2e-2)


@pytest.fixture(scope="module")
def teacher() -> Graph:
    samples, classes = blobs(300)
    return fine_tune(Graph.read(tiny_mlp()), samples=samples, labels=classes, options=OPTIONS)[0]


def agreement(a: Graph, b: Graph) -> float:
    samples, _ = blobs(200, seed=5, noise=0.3)
    return float(np.mean(labels_of(a.write(), samples) == labels_of(b.write(), samples)))


def test_a_smaller_student_answers_as_its_teacher_without_labels(teacher: Graph) -> None:
    student = Graph.read(tiny_mlp(seed=7, hidden=6))
    before = student.write()
    learnt, report = distill(student, teacher, samples=blobs(300, noise=0.3)[0], options=OPTIONS)
    assert student.write() == before
    assert agreement(learnt, teacher) > 0.93 > agreement(student, teacher) + 0.2
    assert report.after["validation agreement"] > 0.9 and "without labels" in report.note()


def test_labels_and_teacher_count_by_alpha(teacher: Graph) -> None:
    samples, classes = blobs(300, noise=0.3)
    other = (classes + 1) % 3  # labels that contradict the teacher
    student = Graph.read(tiny_mlp(seed=7))
    mostly = {
        alpha: distill(student, teacher, samples=samples, labels=other, soft=SoftLabels(2.0, alpha), options=OPTIONS)
        for alpha in (0.05, 0.95)
    }
    assert agreement(mostly[0.95][0], teacher) > 0.9 and agreement(mostly[0.05][0], teacher) < 0.1
    assert {"validation accuracy", "validation agreement"} <= set(mostly[0.05][1].after)


def test_hints_of_another_width_are_learnt_through_a_map_that_is_dropped(teacher: Graph) -> None:
    student = Graph.read(tiny_mlp(seed=7, hidden=6))
    hint = Hint("fully_connected_0", "fully_connected_0", weight=0.5)
    learnt, report = distill(student, teacher, samples=blobs(300, noise=0.3)[0], hints=[hint], options=OPTIONS)
    assert agreement(learnt, teacher) > 0.93
    assert [t.shape for t in learnt.main.tensors] == [t.shape for t in student.main.tensors]
    assert report.after["validation loss"] < report.before["validation loss"]


def two_headed(seed: int) -> Graph:
    """A softmax over 3 classes, and one number."""
    b = TinyBuilder(seed)
    x = b.dense(b.input("features", (1, 10)), 16, activation=RELU)
    return b.finish(b.softmax(b.dense(x, 3)), b.dense(x, 1))


def test_several_outputs_have_their_own_kind_weight_and_data() -> None:
    samples, classes = blobs(300)
    heights = samples.sum(axis=1, keepdims=True)
    known = np.arange(300) % 2 == 0  # half of the samples belong to each task
    tasks = (Task(weight=1.0), Task(weight=0.5))
    labels = (np.where(known, classes, -1), np.where(known[:, None], np.nan, heights).astype(np.float32))
    model = two_headed(0)
    learnt, report = fine_tune(model, samples=samples, labels=labels, tasks=tasks, options=OPTIONS)
    held, held_classes = blobs(100, seed=3)
    got = run_real(learnt.write(), [(s[None],) for s in held])
    assert np.mean(got[0].reshape(100, 3).argmax(axis=1) == held_classes) > 0.9
    assert np.abs(got[1].reshape(-1) - held.sum(axis=1)).mean() < 0.5
    names = [t.name for t in model.outputs]
    assert {f"validation accuracy/{names[0]}", f"validation rms_error/{names[1]}"} <= set(report.after)
    student, _ = distill(two_headed(1), learnt, samples=samples, tasks=tasks, options=OPTIONS)
    assert (
        np.mean(run_real(student.write(), [(s[None],) for s in held])[0].reshape(100, 3).argmax(axis=1) == held_classes)
        > 0.85
    )


def test_independent_flags_behind_a_sigmoid_are_learnt() -> None:
    samples, classes = blobs(300)
    b = TinyBuilder(2)
    x = b.dense(b.dense(b.input("features", (1, 10)), 16, activation=RELU), 3, activation=NONE)
    model = b.finish(b.op("LOGISTIC", [x], (1, 3)))
    flags = (classes[:, None] == np.arange(3)).astype(np.float32)
    learnt, report = fine_tune(model, samples=samples, labels=flags, options=OPTIONS)
    assert report.after["validation accuracy"] > 0.9
    student, _ = distill(model, learnt, samples=samples, options=OPTIONS)
    assert np.mean(labels_of(student.write(), samples) == classes) > 0.9


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"teacher": Graph.read(tiny_mlp(classes=4))}, "different outputs"),
        ({"teacher": Graph.read(tiny_mlp(features=9))}, "different inputs"),
        ({"hints": [Hint("nowhere", "fully_connected_0")]}, "the student has no tensor 'nowhere'"),
        ({"tasks": [Task("nowhere")]}, "the model has no output 'nowhere'"),
        ({"tasks": [Task(kind="guess")]}, "task kind 'guess' is not known"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(changed: dict[str, Any], said: str) -> None:
    model = Graph.read(tiny_mlp())
    with pytest.raises((UsageError, DataError), match=said):
        distill(**{"graph": model, "teacher": model, "samples": blobs(20)[0], **changed})


def test_a_model_without_weights_has_nothing_to_train() -> None:
    b = TinyBuilder(0)
    x = b.input("left", (1, 4))
    model = b.finish(b.op("ADD", [x, x], (1, 4), make_options("AddOptions")))
    with pytest.raises(UsageError, match="no weights to train"):
        distill(model, model, samples=np.zeros((9, 4), np.float32))


def test_an_output_without_samples_cannot_be_learnt_at() -> None:
    b = TinyBuilder(0)
    axes = b.constant("axes", np.array([0, 1], np.int32))
    total = b.op("SUM", [b.dense(b.input("features", (1, 10)), 3), axes], (), make_options("ReducerOptions"))
    with pytest.raises(UsageError, match="is one number for any samples"):
        distill(b.finish(total), b.graph, samples=np.zeros((9, 10), np.float32))
