"""Exported files are run over data as the device would run them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.errors import ConfigError, DataError, UsageError
from edgeloop.graph import Graph
from edgeloop_converters.data.dataset import IMAGE, TENSOR, Dataset
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.evaluate import per_op_errors, run_models, summarize
from edgeloop_converters.evaluate.per_op import match_tensors
from support.tiny_models import tiny_mlp

CONTRACT = Contract(
    (InputSpec("image", "image", (8, 8), "gray", None, (0.0,), (255.0,)),),
    OutputSpec("classification", tuple(map(str, range(10)))),
)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    split = load_split()
    return Dataset(IMAGE, "digits", 200, lambda i: split.held_out_images[i], split.held_out_labels[:200])


def damaged(model: bytes, factor: float) -> bytes:
    """The model with the weights of its first op scaled, so that its answers differ."""
    graph = Graph.read(model)
    weights = graph.main.tensors[graph.main.ops[0].inputs[1]]
    assert weights.data is not None
    weights.data = (weights.data * factor).astype(np.float32)
    return graph.write()


def test_accuracy_and_agreement_on_real_digits(digits: Dataset, digits_tflite: Path) -> None:
    model = digits_tflite.read_bytes()
    result = run_models(
        {"float": model, "same": model, "other": damaged(model, -1.0)}, CONTRACT, digits, reference="float"
    )
    same = summarize(result, "same", reference="float").metrics
    other = summarize(result, "other", reference="float").metrics
    assert same.agreement == 1.0
    assert same.this == same.float_
    assert same.this is not None and same.this > 0.95
    assert other.agreement is not None and other.agreement < 0.9
    assert result.classes == 10
    assert result.outcomes["float"].agreement is None
    assert result.outcomes["same"].ran_on.total_ops > 0


def test_threads_do_not_change_the_result(digits: Dataset, digits_tflite: Path) -> None:
    model = digits_tflite.read_bytes()
    one = run_models({"m": model}, CONTRACT, digits, threads=1).outcomes["m"]
    two = run_models({"m": model}, CONTRACT, digits, threads=3).outcomes["m"]
    assert one.predictions is not None and two.predictions is not None
    assert (one.predictions == two.predictions).all()
    assert (one.scores == two.scores).all()  # type: ignore[union-attr]


def test_chosen_samples_are_evaluated_in_their_order_and_read_once(digits: Dataset, digits_tflite: Path) -> None:
    reads: list[int] = []
    counted = Dataset(IMAGE, "d", 200, lambda i: (reads.append(i), digits.read(i))[1], digits.labels)
    model = digits_tflite.read_bytes()
    result = run_models({"a": model, "b": model}, CONTRACT, counted, [7, 3, 150], reference="a", threads=1)
    assert reads == [7, 3, 150]
    assert result.labels is not None and digits.labels is not None
    assert result.labels.tolist() == digits.labels[[7, 3, 150]].tolist()


def test_models_with_other_outputs_are_not_compared() -> None:
    contract = Contract((InputSpec("features", shape=(10,)),), OutputSpec("classification"))
    data = Dataset(TENSOR, "d", 4, lambda i: np.zeros(10, np.float32))
    models = {"a": tiny_mlp(classes=3), "b": tiny_mlp(classes=5)}
    with pytest.raises(UsageError, match=r"'b' has \[1, 5\] and 'a' \[1, 3\]"):
        run_models(models, contract, data, reference="a")
    assert run_models(models, contract, data).classes == 3


def test_a_raw_output_is_compared_by_relative_error(digits: Dataset, digits_tflite: Path) -> None:
    contract = Contract(CONTRACT.inputs, OutputSpec("raw"))
    model = digits_tflite.read_bytes()
    result = run_models({"float": model, "other": damaged(model, 1.05)}, contract, digits, range(20), reference="float")
    quality = summarize(result, "other", reference="float")
    assert quality.agreement_kind == "1 - relative error"
    assert quality.metrics.metric == "agreement"
    assert quality.metrics.agreement is not None and 0.8 < quality.metrics.agreement < 1.0
    assert quality.confusion is None


def test_an_error_in_a_thread_is_one_error_naming_the_sample(digits: Dataset, digits_tflite: Path) -> None:
    def read(i: int) -> np.ndarray:
        if i == 120:
            raise DataError("image x.png: cannot be read")
        return digits.read(i)

    broken = Dataset(IMAGE, "d", 200, read, digits.labels)
    with pytest.raises(DataError, match=r"x\.png"):
        run_models({"m": digits_tflite.read_bytes()}, CONTRACT, broken, threads=2)
    wrong = Dataset(IMAGE, "d", 2, lambda i: np.zeros((8, 8), np.float32), None, describe=lambda i: f"sample {i} of d")
    with pytest.raises(DataError, match=r"sample 0 of d: .*uint8"):
        run_models({"m": digits_tflite.read_bytes()}, CONTRACT, wrong, threads=1)


def test_what_cannot_be_evaluated_is_said(digits: Dataset, digits_tflite: Path) -> None:
    model = digits_tflite.read_bytes()
    with pytest.raises(DataError, match="no samples"):
        run_models({"m": model}, CONTRACT, digits, [])
    with pytest.raises(UsageError, match="2 inputs"):
        run_models({"m": model}, Contract(CONTRACT.inputs * 2), digits)
    with pytest.raises(ConfigError, match="image is"):
        run_models({"m": model}, Contract((InputSpec("x", "image", (9, 9), "gray"),)), digits)


def test_error_per_tensor_grows_with_the_damage(digits: Dataset, digits_tflite: Path) -> None:
    model = digits_tflite.read_bytes()
    assert all(e.mse == 0 and e.snr_db > 100 for e in per_op_errors(model, model, CONTRACT, digits, range(4)))
    little = per_op_errors(model, damaged(model, 1.001), CONTRACT, digits, range(4))
    much = per_op_errors(model, damaged(model, 1.5), CONTRACT, digits, range(4))
    graph = Graph.read(model)
    assert [(e.index, e.name) for e in little] == [(i, op.name) for i, op in enumerate(graph.main.ops)]
    assert little[0].snr_db == pytest.approx(60.0, abs=6.0)
    assert much[0].snr_db < little[0].snr_db
    assert much[0].max_abs > little[0].max_abs > 0


def test_tensors_are_matched_by_position_when_names_differ(digits_tflite: Path) -> None:
    graph = Graph.read(digits_tflite)
    renamed = Graph.read(digits_tflite)
    for i, tensor in enumerate(renamed.main.tensors):
        tensor.name = f"other_{i}"
    pairs = match_tensors(graph, renamed)
    assert [p.op_index for p in pairs] == list(range(len(graph.main.ops)))
    assert all(p.tensor == p.float_tensor for p in pairs)
    del renamed.main.ops[-1]
    assert match_tensors(graph, renamed) == ()
