"""Training: a step's time next to Keras' `fit`, and int8 by quantization-aware training next to the adapted float.

    .venv/bin/python tests/benchmarks/training.py --quick

ResNet8 on CIFAR-10 JPEGs. The model is adapted to these pictures first, since any training gains by that alone; a float
control is then trained as long as the int8 model. Choices are made on a validation part of the training pictures; the
test pictures are looked at once, at the end.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from edgeloop_converters.passes.train import TrainedInt8

Array = np.ndarray[Any, Any]

PARTS = ("speed", "accuracy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5,000 pictures and few epochs instead of 50,000")
    parser.add_argument("--threads", type=int, default=1, help="of TensorFlow")
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; default: all")
    parser.add_argument("--pictures", type=int, help="to train on; default: 5,000 with --quick, else 50,000")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    # TensorFlow reads these when it is imported.
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = str(asked.threads)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from _timing import host

    print(f"{host()}, TensorFlow with {asked.threads} thread{'s' if asked.threads > 1 else ''}")
    with tempfile.TemporaryDirectory() as scratch:
        train = _pictures(Path(scratch), "train", (asked.pictures or (5_000 if asked.quick else 50_000)) // 10)
        if "speed" in (asked.only or PARTS):
            batches = (32,) if asked.quick else (32, 128)
            speed(*train, batches, steps=20 if asked.quick else 100, rounds=6 if asked.quick else 12)
        if "accuracy" in (asked.only or PARTS):
            accuracy(*train, *_pictures(Path(scratch), "test", 500), quick=asked.quick, seed=asked.seed)


def _pictures(scratch: Path, part: str, each: int) -> tuple[Array, Array]:
    """(RGB 0..255 float32, class ids), `each` of every class."""
    import cv2
    from _timing import unpack_cifar

    folders = sorted(path for path in unpack_cifar(scratch, part).iterdir() if path.is_dir())
    paths = [path for folder in folders for path in sorted(folder.glob("*.jpg"))[:each]]
    classes = [folders.index(path.parent) for path in paths]
    found = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]
    return np.stack(found).astype(np.float32), np.asarray(classes, np.int64)


def _resnet8() -> Any:
    from _timing import shared_data

    from edgeloop.graph import Graph

    return Graph.read(shared_data() / "models" / "mlperf_tiny" / "pretrainedResnet.tflite")


def speed(pictures: Array, classes: Array, batches: Sequence[int], *, steps: int, rounds: int) -> None:
    """Epochs of both in turn, in one process; the first of each compiles and is not counted."""
    for batch in batches:
        chosen = np.random.default_rng(0).permutation(len(pictures))[: batch * steps]
        keras = _keras_resnet8()
        for kind in ("fine-tuning", "fine-tuning in bfloat16", "distillation"):
            ours, theirs = _in_turns(keras, kind, pictures[chosen], classes[chosen], batch, rounds)
            ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
            per_step = [1e3 * statistics.median(side) / (len(chosen) // batch) for side in (ours, theirs)]
            print(
                f"batch {batch}, {kind}: {per_step[0]:.0f} ms a step, Keras fit {per_step[1]:.0f} ms, "
                f"ratio {ratio:.2f} (n = {len(ours)} epochs of {len(chosen) // batch} steps)"
            )


def _in_turns(
    keras: Any, kind: str, pictures: Array, classes: Array, batch: int, rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of each side's epochs; ours include what it does between two."""
    from edgeloop_converters.passes import distill, fine_tune
    from edgeloop_converters.trainable import TrainingOptions

    turns = _Turns(lambda: keras.fit(pictures, classes, batch_size=batch, epochs=1, verbose=0))
    options = TrainingOptions(
        epochs=rounds + 1, batch=batch, rate=1e-4, validation=0, on_epoch=turns.ended,
        precision="bfloat16" if "bfloat16" in kind else "float32",
    )  # fmt: skip
    if kind == "distillation":
        distill(_resnet8(), _resnet8(), samples=pictures, labels=classes, options=options)
    else:
        fine_tune(_resnet8(), samples=pictures, labels=classes, options=options)
    return turns.ours, turns.theirs[1:]


class _Turns:
    """After each of our epochs, one of the other side's. Ours is timed from the end of theirs, so our first is left
    out; the first of theirs compiles."""

    def __init__(self, other: Callable[[], object]) -> None:
        self._other, self._began = other, 0.0
        self.ours: list[float] = []
        self.theirs: list[float] = []

    def ended(self, _figures: object) -> None:
        if self._began:
            self.ours.append(time.perf_counter() - self._began)
        began = time.perf_counter()
        self._other()
        self._began = time.perf_counter()
        self.theirs.append(self._began - began)


def _keras_resnet8() -> Any:
    """The same layers with the batch normalization folded, as the .tflite has them; logits."""
    import keras

    layers = keras.layers

    def conv(x: Any, filters: int, kernel: int = 3, stride: int = 1, activation: str | None = "relu") -> Any:
        return layers.Conv2D(filters, kernel, stride, "same", activation=activation)(x)

    image = keras.Input((32, 32, 3))
    x = conv(image, 16)
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        y = conv(conv(x, filters, stride=stride), filters, activation=None)
        x = layers.ReLU()(layers.add([y, x if stride == 1 else conv(x, filters, 1, stride, None)]))
    logits = layers.Dense(10)(layers.Flatten()(layers.AveragePooling2D(8)(x)))
    model = keras.Model(image, logits)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-4), loss, metrics=["accuracy"])
    return model


def accuracy(pictures: Array, classes: Array, tests: Array, truth: Array, *, quick: bool, seed: int) -> None:
    from edgeloop_converters.calibration import calibrate
    from edgeloop_converters.passes import fine_tune
    from edgeloop_converters.passes.train import train_int8
    from edgeloop_converters.quantization import quantize_int8
    from edgeloop_converters.trainable import TrainingOptions, flips_and_shifts

    def right(model: bytes) -> float:
        from _subjects import labels

        return 100 * float(np.mean(labels(model, tests) == truth))

    model = _resnet8()
    epochs, batch = (3, 32) if quick else (10, 128)
    adapting = TrainingOptions(epochs=epochs, batch=batch, rate=5e-4, augment=flips_and_shifts())
    adapted, report = fine_tune(model, samples=pictures, labels=classes, options=adapting, seed=seed)
    print(report.note())
    quantizing = TrainingOptions(epochs=2 if quick else 5, batch=batch, rate=2e-4, augment=flips_and_shifts())
    control, report = fine_tune(adapted, samples=pictures, labels=classes, options=quantizing, seed=seed)
    print(f"control: {report.note()}")
    trained = train_int8(adapted, samples=pictures, labels=classes, teacher=adapted, options=quantizing, seed=seed)
    print(trained.report.note())
    float_model = adapted.write()
    order = np.random.default_rng(seed).permutation(len(pictures))[:200]
    ranges = calibrate(float_model, [picture[None] for picture in pictures[order]])
    base = right(float_model)
    print(
        f"{len(tests)} test pictures, {len(pictures)} to train on, {epochs} + {quantizing.epochs} epochs, seed {seed}"
    )
    for name, file in (
        ("float, as it came", model.write()),
        ("float, adapted", float_model),
        ("float control, trained as long as the int8", control.write()),
        ("int8 without training", quantize_int8(float_model, ranges).tflite),
        ("int8 by training", trained.tflite),
        ("its float twin", trained.graph.write()),
    ):
        score = right(file)
        print(f"{name}: {score:.2f} %, {score - base:+.2f} pt, {len(file)} bytes")
    simulated = _simulated(trained, tests)
    from _subjects import labels

    same = 100 * float(np.mean(simulated == labels(trained.tflite, tests)))
    print(
        f"int8 as simulated in training: {100 * float(np.mean(simulated == truth)):.2f} %, {same:.2f} % the same class"
    )


def _simulated(trained: TrainedInt8, pictures: Array) -> Array:
    """The classes that the fake-quantized function gives."""
    from edgeloop_converters.passes.packed import PackedModel
    from edgeloop_converters.passes.train.quantizer import FakeQuantizer
    from edgeloop_converters.trainable import TrainableGraph
    from edgeloop_converters.trainable.imports import import_tensorflow

    packed = PackedModel(trained.graph.write(), trained.tflite, trained.refinement.ranges)
    hooks = FakeQuantizer(import_tensorflow(), packed).hooks(False)
    function = TrainableGraph(trained.graph)
    parts = [function(pictures[i : i + 500], hooks=hooks)[0].numpy() for i in range(0, len(pictures), 500)]
    return np.concatenate(parts).argmax(axis=1)


if __name__ == "__main__":
    main()
