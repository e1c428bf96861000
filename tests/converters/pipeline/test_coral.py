"""Conversions for boards with an Edge TPU: what is written, what is checked, and the compiler where there is one. The
compiler is a stand-in: nothing here says what the real one does.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeloop_agent
from edgeloop.bundle import Bundle
from edgeloop.cli.main import main
from edgeloop.errors import DelegateError, UsageError
from edgeloop.graph import Graph, Op, Quantization, Subgraph, Tensor, make_options
from edgeloop.runtime import open_session
from edgeloop.targets import load_target
from edgeloop_converters.coral import check_export, prepared
from edgeloop_converters.demo.digits import load_split
from support.edgetpu import stand_in

CORAL = load_target("coral-usb")
FLAGS = (
    "--target", "coral-usb", "--effort", "fast", "--input-kind", "image", "--size", "8x8", "--color", "gray",
    "--std", "255",
)  # fmt: skip


def convert(capsys: pytest.CaptureFixture[str], model: Path, *more: str, expect: int = 0) -> dict[str, Any]:
    split = load_split()
    np.savez("d.npz", x=split.train_images[:120], y=split.train_labels[:120])
    code = main(
        ["convert", str(model), "--data", "d.npz", "--eval", "d.npz", *FLAGS, "-o", "d.bundle", *more, "--json"]
    )
    printed = capsys.readouterr()
    assert code == expect, printed.err
    data: dict[str, Any] = json.loads(printed.out)
    return data


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_without_the_compiler_it_is_int8_and_says_so(digits_tflite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = convert(capsys, digits_tflite)
    assert [v["name"] for v in data["variants"]] == ["int8"]
    notes = "\n".join(data["notes"])
    assert "int8, not compiled for the Edge TPU" in notes
    ops = Graph.read(Bundle.open("d.bundle").model()).main.ops
    assert f"Edge TPU: {len(ops)} of {len(ops)} ops mapped (predicted)" in notes
    assert Bundle.open("d.bundle").manifest.variants[0].delegates == ("xnnpack", "cpu")


def test_the_commands_to_compile_it_are_printed(digits_tflite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split = load_split()
    np.savez("d.npz", x=split.train_images[:120], y=split.train_labels[:120])
    main(["convert", str(digits_tflite), "--data", "d.npz", *FLAGS, "--name", "d", "-o", "d.bundle"])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    steps = [
        "edgeloop bundle extract d.bundle int8 -o d_int8.tflite",
        "edgetpu_compiler -s d_int8.tflite",
        "edgeloop bundle create d.bundle --add-variant edgetpu=d_int8_edgetpu.tflite",
    ]
    at = lines.index(steps[0])
    assert lines[at : at + 3] == steps


def test_those_commands_lead_to_a_bundle_with_both(
    digits_tflite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import subprocess

    convert(capsys, digits_tflite, "--name", "d")
    assert main(["bundle", "extract", "d.bundle", "int8", "-o", "d_int8.tflite"]) == 0
    subprocess.run([stand_in(tmp_path), "-s", "-o", ".", "d_int8.tflite"], check=True, capture_output=True)
    assert (
        main(["bundle", "create", "d.bundle", "--add-variant", "edgetpu=d_int8_edgetpu.tflite", "-o", "e.bundle"]) == 0
    )
    assert main(["bundle", "verify", "e.bundle"]) == 0
    assert [v.name for v in Bundle.open("e.bundle").manifest.variants] == ["edgetpu", "int8"]
    assert Bundle.open("e.bundle").report() == Bundle.open("d.bundle").report()


def test_with_the_compiler_its_file_is_the_first_variant(
    digits_tflite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    data = convert(capsys, digits_tflite)
    first, second = data["variants"]
    assert (first["name"], first["file"], first["scheme"]) == ("edgetpu", "models/edgetpu.tflite", "int8, compiled")
    assert (first["compiler"], first["compiled_from"], first["left_on_cpu"]) == ("16.0.384591198", "int8", [])
    assert set(second) <= set(first) and first["metrics"].keys() == second["metrics"].keys()
    assert second["name"] == "int8"
    assert not any("not compiled" in note for note in data["notes"])
    assert any("compiled by edgetpu_compiler 16.0.384591198, confirmed" in note for note in data["notes"])
    bundle = Bundle.open("d.bundle")
    assert [(v.name, v.delegates) for v in bundle.manifest.variants] == [
        ("edgetpu", ("edgetpu",)), ("int8", ("xnnpack", "cpu")),
    ]  # fmt: skip
    golden = bundle.golden()
    assert golden is not None and set(golden.outputs) == {"edgetpu", "int8"}
    with edgeloop_agent.open("d.bundle") as model:  # no chip here: the variant behind it runs
        assert (model.variant, model.ran_on.ran) == ("int8", "xnnpack")
        assert [failure.delegate for failure in model.failures] == ["edgetpu"]
        assert model(load_split().held_out_images[0]).label is not None
    for asked in ({"variant": "edgetpu"}, {"delegates": ["edgetpu"]}):
        with pytest.raises(DelegateError):
            edgeloop_agent.open("d.bundle", **asked)
    assert main(["analyze", "d.bundle", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["delegates"]["edgetpu"]["status"] == "confirmed"


def test_a_compiler_that_fails_leaves_the_int8_model(
    digits_tflite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(tmp_path, says="Internal compiler error. Aborting!", code=1)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    data = convert(capsys, digits_tflite)
    assert [v["name"] for v in data["variants"]] == ["int8"]
    notes = "\n".join(data["notes"])
    assert "edgetpu_compiler failed: Internal compiler error. Aborting!" in notes
    assert "int8, not compiled for the Edge TPU" in notes


def integer(*ops: Op, dtypes: dict[int, str] | None = None) -> Graph:
    count = 1 + max(i for op in ops for i in (*op.inputs, *op.outputs))
    tensors = []
    for index in range(count):
        dtype = (dtypes or {}).get(index, "int8")
        quantization = None if dtype == "float32" else Quantization.per_tensor(0.1)
        tensors.append(Tensor(f"t{index}", (1, 8, 8, 4), dtype, None, quantization))
    return Graph([Subgraph("main", tensors, [0], [count - 1], list(ops))])


def test_an_export_that_the_compiler_would_not_take_is_refused_by_op() -> None:
    graph = integer(Op("RELU", [0], [1]), Op("FULLY_CONNECTED", [1, 2], [3], make_options("FullyConnectedOptions")))
    for index, shape in ((0, (1, 8)), (1, (1, 8)), (2, (4, 8)), (3, (1, 4))):
        graph.main.tensors[index].shape = shape
    weights = graph.main.tensors[2]
    weights.data = np.zeros((4, 8), np.int8)
    assert check_export(graph.write(), CORAL)[0].startswith("Edge TPU: 2 of 2 ops mapped (predicted)")
    weights.quantization = Quantization(np.ones(4, np.float32), np.zeros(4, np.int64))
    with pytest.raises(UsageError, match=r"op 1 \(FULLY_CONNECTED\): its weights have a scale per channel") as caught:
        check_export(graph.write(), CORAL)
    assert "--scheme at int8" in str(caught.value.hint)
    weights.quantization = Quantization.per_tensor(0.1)
    graph.main.ops[1].version = 12
    with pytest.raises(UsageError, match="cannot read the model"):
        check_export(graph.write(), CORAL)


def test_a_model_of_which_nothing_is_mapped_is_refused_with_a_way_out() -> None:
    with pytest.raises(UsageError, match=r"no op .* would run on the Edge TPU: op 0 \(HARD_SWISH\)") as caught:
        check_export(integer(Op("HARD_SWISH", [0], [1])).write(), CORAL)
    assert "ReLU6" in str(caught.value.hint)


def test_what_ends_the_program_is_a_warning_with_what_to_do() -> None:
    said = check_export(integer(Op("RELU", [0], [1]), Op("LEAKY_RELU", [1], [2]), Op("RELU", [2], [3])).write(), CORAL)
    assert "warning: the Edge TPU's program ends at op 1 (LEAKY_RELU): the op is not in Coral's list" in said
    assert any(line.startswith("to have more of it there: LEAKY_RELU: use PReLU") for line in said)


def test_float_ops_before_the_last_mappable_one_are_named() -> None:
    graph = integer(
        Op("RELU", [0], [1]), Op("DEQUANTIZE", [1], [2]), Op("EXP", [2], [3]), Op("QUANTIZE", [3], [4]),
        Op("RELU", [4], [5]), dtypes={2: "float32", 3: "float32"},
    )  # fmt: skip
    said = check_export(graph.write(), CORAL)
    assert any("op 1 (DEQUANTIZE)" in line for line in said)
    assert said[0].startswith("Edge TPU: 1 of 5 ops mapped")


def test_a_free_batch_is_fixed() -> None:
    graph = integer(Op("RELU", [0], [1]))
    for tensor in graph.main.tensors:
        tensor.shape_signature = (-1, 8, 8, 4)
    with pytest.raises(UsageError, match="the shape is not fixed"):
        check_export(graph.write(), CORAL)
    assert check_export(prepared(graph.write()), CORAL)[0].startswith("Edge TPU: 1 of 1")
    fixed = integer(Op("RELU", [0], [1])).write()
    assert prepared(fixed) == fixed


@pytest.mark.parametrize("version", [12, 6])
def test_dense_weights_with_many_scales_get_one_and_compute_the_same(version: int) -> None:
    random = np.random.default_rng(0)
    sub = Subgraph("main", [], [0], [3], [])
    scales = np.array([0.01, 0.02, 0.04, 0.03], np.float32)
    codes, bias = random.integers(-127, 128, (4, 16)).astype(np.int8), random.integers(-900, 900, 4).astype(np.int32)
    sub.tensors = [
        Tensor("x", (1, 16), "int8", None, Quantization.per_tensor(0.05)),
        Tensor("w", (4, 16), "int8", codes, Quantization(scales, np.zeros(4, np.int64))),
        Tensor("b", (4,), "int32", bias, Quantization(scales * np.float32(0.05), np.zeros(4, np.int64))),
        Tensor("y", (1, 4), "int8", None, Quantization.per_tensor(1.0)),
    ]
    sub.ops = [Op("FULLY_CONNECTED", [0, 1, 2], [3], make_options("FullyConnectedOptions"), version)]
    many = Graph([sub]).write()
    one = prepared(many)
    weights = Graph.read(one).main.tensors[1]
    assert not weights.is_per_channel and Graph.read(one).main.ops[0].version == 4
    assert check_export(one, CORAL)[0].startswith("Edge TPU: 1 of 1")
    with open_session(many) as before, open_session(one) as after:
        for _ in range(20):
            x = random.integers(-128, 128, (1, 16)).astype(np.int8)
            assert np.abs(before.run(x)[0].astype(int) - after.run(x)[0].astype(int)).max() <= 1
    assert prepared(one) == one
