"""Model fusion: in series and side by side, one file that answers as the models do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeloop.cli.main import main
from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop.runtime import open_session
from edgeloop_converters.passes import in_series, optimize_graph, side_by_side
from support.tiny_models import NONE, RELU, TinyBuilder, tiny_cnn, tiny_cnn_graph, tiny_mlp


def run(graph: Graph, x: np.ndarray) -> list[np.ndarray]:
    with open_session(graph.write(), delegate="cpu") as session:
        return session.run(x)


def dense(seed: int, inputs: int, units: int, activation: int = NONE) -> Graph:
    b = TinyBuilder(seed)
    return b.finish(b.dense(b.input("features", (1, inputs)), units, activation=activation))


IMAGE = np.random.default_rng(0).random((1, 8, 8, 3)).astype(np.float32)


def test_in_series_is_one_after_the_other() -> None:
    first, second = Graph.read(tiny_cnn(classes=10)), Graph.read(tiny_mlp(features=10))
    both = in_series(first, second)
    assert np.array_equal(run(both, IMAGE)[0], run(second, run(first, IMAGE)[0])[0])
    assert len(both.signatures[0].inputs) == len(both.signatures[0].outputs) == 1


def test_what_meets_at_the_seam_can_be_merged() -> None:
    joined = in_series(dense(0, 10, 8), dense(1, 8, 3, RELU))
    better, report = optimize_graph(joined)
    x = np.random.default_rng(0).random((1, 10)).astype(np.float32)
    assert len(better.main.ops) == 1 and report.after["macs"] < report.before["macs"]
    assert np.allclose(run(better, x)[0], run(joined, x)[0], atol=1e-5)


def test_side_by_side_takes_one_input_and_gives_all_outputs() -> None:
    models = [Graph.read(tiny_cnn(seed)) for seed in (0, 1)]
    both = Graph.read(side_by_side(models, ["cats", "dogs"]).write())
    assert len(both.inputs) == 1
    assert [name.split("/")[0] for name in both.signatures[0].outputs] == ["cats", "dogs"]
    for ours, model in zip(run(both, IMAGE), models, strict=True):
        assert np.array_equal(ours, run(model, IMAGE)[0])


def test_what_two_models_share_is_computed_once() -> None:
    model = tiny_cnn_graph()
    head = model.copy()
    dense_weights = next(t for t in head.main.tensors if t.name.startswith("dense") and len(t.shape) == 2)
    dense_weights.data = -np.asarray(dense_weights.data)
    both = side_by_side([model, head])
    better, report = optimize_graph(both)
    names = [op.name for op in better.main.ops]
    assert names.count("CONV_2D") == names.count("DEPTHWISE_CONV_2D") == 1
    assert report.after["macs"] < 0.6 * report.before["macs"]
    for ours, theirs in zip(run(better, IMAGE), run(both, IMAGE), strict=True):
        assert np.allclose(ours, theirs, atol=1e-6)


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(UsageError, match=r"output 0 of the first model is float32 \[1, 4\], the second one takes"):
        in_series(Graph.read(tiny_cnn()), Graph.read(tiny_mlp()))
    with pytest.raises(UsageError, match="takes other inputs"):
        side_by_side([Graph.read(tiny_cnn()), Graph.read(tiny_mlp())])
    with pytest.raises(UsageError, match="as many names"):
        side_by_side([Graph.read(tiny_cnn())], ["a", "b"])
    with pytest.raises(UsageError, match="no models"):
        side_by_side([])


def test_the_command_writes_one_file_of_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["first.tflite", "second.tflite", "third.tflite", "both.tflite"]
    first, second, third, both = (str(tmp_path / name) for name in names)
    models = [Graph.read(tiny_cnn(classes=10)), Graph.read(tiny_mlp()), Graph.read(tiny_mlp(features=3))]
    for model, path in zip(models, (first, second, third), strict=True):
        model.save(path)
    assert main(["fuse", first, second, third, "-o", both, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    x = IMAGE
    for model in models:
        x = run(model, x)[0]
    assert np.allclose(run(Graph.read(Path(both)), IMAGE)[0], x, atol=1e-6)
    assert said["file"] == both and said["models"] == [first, second, third]
    assert [o["shape"] for o in said["outputs"]] == [[1, 3]]
    assert main(["fuse", first, first, "--parallel", "-o", both, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [o["name"].split("/")[0] for o in said["outputs"]] == ["first_0", "first_1"]
    assert said["merged"] == "4 duplicates merged" and said["ops"] == 6
    for arguments, line in (
        (
            [first, second, first],
            "output 0 of second.tflite is float32 [1, 3], first.tflite takes float32 [1, 8, 8, 3]",
        ),
        ([first, second, "--parallel"], "model 'second' takes other inputs than 'first'"),
        ([first], "one model alone cannot be fused"),
    ):
        assert main(["fuse", *arguments, "-o", both]) == 2
        assert line in capsys.readouterr().err
