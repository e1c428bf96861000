"""The table float | exported."""

from __future__ import annotations

from edgeloop.bundle import Metrics
from edgeloop.cli._quality import quality_lines
from edgeloop.cli.compare import _drop
from edgeloop_converters.evaluate import Quality


def test_a_float_column_is_there_where_a_float_model_is_known() -> None:
    alone = quality_lines(Quality(Metrics("accuracy", None, 0.75, None, 200), "top-1"), "int8", 93_000, None)
    assert alone[0].split() == ["int8"]
    assert alone[1].split()[:3] == ["accuracy", "75.00", "%"]
    beside = quality_lines(Quality(Metrics("accuracy", 0.76, 0.75, 0.98, 200), "top-1"), "int8", 93_000, 317_000)
    assert beside[0].split() == ["float", "int8"]
    assert beside[1].split()[1:5] == ["76.00", "%", "75.00", "%"]


def test_a_float_model_beside_another_is_compared_and_one_alone_is_not() -> None:
    quality = Quality(Metrics("accuracy", 0.76, 0.75, 0.5, 200), "top-1")
    beside = quality_lines(quality, "float", 318_000, 317_000)
    assert beside[0].split() == ["reference", "float"]
    assert beside[2].split()[:3] == ["agreement", "50.00", "%"]
    alone = quality_lines(quality, "float", 318_000, 317_000, alone=True)
    assert alone[0].split() == ["float"]
    assert not any(line.startswith("agreement") for line in alone)


def test_accuracy_that_is_not_known_is_said() -> None:
    of_classes = quality_lines(Quality(Metrics("agreement", 1.0, 0.92, 0.92, 50), "top-1"), "int8", 93_000, 317_000)
    assert of_classes[1].split()[:4] == ["accuracy", "-", "-", "not"]
    of_values = quality_lines(Quality(Metrics("agreement", 1.0, 0.92, 0.92, 50), "cosine"), "int8", 93_000, 317_000)
    assert not any("accuracy" in line for line in of_values)


def test_no_drop_has_no_sign_of_a_loss() -> None:
    assert [_drop(value) for value in (0.0, 1e-17, -1e-17, 0.004)] == ["+0.00 pt", "+0.00 pt", "+0.00 pt", "-0.40 pt"]
