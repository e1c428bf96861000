"""The table of op costs and the names of CPUs, without an emulator."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeloop.bench.instructions import Counted, Instructions, as_dict, as_text
from edgeloop.cli.main import main
from edgeloop.devices.emulated.cpus import CPUS, cpu_of
from edgeloop.devices.emulated.op_costs import RUNTIME, CostTable, op_groups, op_key, predicted
from edgeloop.errors import UsageError
from edgeloop.graph import Graph, Op, Subgraph, Tensor
from support.agents import residual_int8


class _Counting:
    """Every op costs two instructions of each kind and an inference one more; counts how often it was asked."""

    device = "emulated:cortex-a72"

    def __init__(self) -> None:
        self.asked = 0

    def measure(self, model: bytes | Path, name: str = "model") -> Counted:
        self.asked += 1
        assert isinstance(model, bytes)
        return Counted(name, self.device, "a runtime", 1, 1, Instructions(*[1 + 2 * _kernels(Graph.read(model))] * 4))


def _kernels(graph: Graph) -> int:
    """As XNNPACK has it: a float op between DEQUANTIZE and QUANTIZE is one op."""
    names = [op.name for op in graph.main.ops]
    return len(names) - 2 * (names == ["DEQUANTIZE", "HARD_SWISH", "QUANTIZE"])


def test_an_op_of_known_shape_is_not_measured_again(tmp_path: Path) -> None:
    meter, model = _Counting(), residual_int8()
    first = op_groups(model, meter, CostTable(meter.device, tmp_path))
    asked = meter.asked
    again = op_groups(model, meter, CostTable(meter.device, tmp_path))
    assert asked > 0
    assert meter.asked == asked
    assert first == again
    assert sum(group.count for group in first if group.op != RUNTIME) == len(Graph.read(model).main.ops)


def test_what_an_inference_takes_beside_its_ops_is_counted_once(tmp_path: Path) -> None:
    meter, model = _Counting(), residual_int8()
    table = CostTable(meter.device, tmp_path)
    assert predicted(model, meter, table) == meter.measure(model).cost
    assert op_groups(model, meter, table)[-1].cost == Instructions(1, 1, 1, 1)


def test_what_the_runtime_makes_one_op_of_is_measured_as_one(tmp_path: Path) -> None:
    kinds = (("float32", "int8"), ("DEQUANTIZE", "HARD_SWISH", "QUANTIZE"))
    dtypes = [kinds[0][i in (0, 3)] for i in range(4)]
    tensors = [Tensor(f"t{i}", (1, 8), dtype) for i, dtype in enumerate(dtypes)]
    ops = [Op(name, [i], [i + 1]) for i, name in enumerate(kinds[1])]
    graph = Graph([Subgraph("main", tensors, [0], [3], ops)])
    meter = _Counting()
    assert predicted(graph, meter, CostTable(meter.device, tmp_path)) == Instructions(3, 3, 3, 3)
    graph.main.outputs.append(1)  # somebody else reads the float value, so it is made
    assert predicted(graph, meter, CostTable(meter.device, tmp_path)) == Instructions(7, 7, 7, 7)


def test_another_runtime_is_another_entry(tmp_path: Path) -> None:
    meter, table = _Counting(), CostTable("emulated:cortex-a72", tmp_path)
    op_groups(residual_int8(), meter, table, "one")
    asked = meter.asked
    op_groups(residual_int8(), meter, table, "two")
    assert meter.asked == 2 * asked


def test_values_of_weights_are_no_part_of_a_key_and_shapes_are() -> None:
    graph, other = Graph.read(residual_int8()), Graph.read(residual_int8())
    at = next(n for n, op in enumerate(graph.main.ops) if op.name == "CONV_2D")
    op = graph.main.ops[at]
    weights = other.main.tensors[op.inputs[1]]
    assert weights.data is not None
    weights.data = weights.data * 0
    assert op_key(graph, op) == op_key(other, other.main.ops[at])
    weights.shape = (*weights.shape[:-1], weights.shape[-1] + 1)
    assert op_key(graph, op) != op_key(other, other.main.ops[at])


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"a": [1]}', '{"a": 3}', '{"a": "text"}', "\x00"])
def test_a_damaged_table_is_begun_anew(content: str, tmp_path: Path) -> None:
    (tmp_path / "costs-cortex-a72.json").write_text(content)
    table = CostTable("emulated:cortex-a72", tmp_path)
    table.put("key", Instructions(1, 2, 3, 4))
    table.save()
    assert CostTable("emulated:cortex-a72", tmp_path).get("key") == Instructions(1, 2, 3, 4)


def test_an_unknown_cpu_names_those_that_are_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError) as caught:
        cpu_of("emulated:cortex-m4")
    assert all(name in str(caught.value.hint) for name in CPUS)
    model = tmp_path / "m.tflite"
    model.write_bytes(residual_int8())
    assert main(["bench", str(model), "--device", "emulated:z80"]) == 2
    assert "cortex-a72" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("missing", "package"), [("qemu-aarch64", "qemu-user"), ("cc", "gcc libc6-dev"), ("apt-get", "Raspberry Pi OS")]
)
def test_a_missing_tool_is_one_line_that_says_what_to_install(
    missing: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGELOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("shutil.which", lambda tool, **_: None if tool == missing else f"/usr/bin/{tool}")
    model = tmp_path / "m.tflite"
    model.write_bytes(residual_int8())
    assert main(["bench", str(model), "--device", "emulated:cortex-a72"]) == 3
    said = capsys.readouterr().err
    assert f"{missing} is missing" in said and package in said and "Traceback" not in said
    assert not list((tmp_path / "home").rglob("*.deb")), "nothing large is fetched first"


def test_flags_of_real_devices_are_refused_for_an_emulated_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(residual_int8())
    assert main(["bench", str(model), "--device", "emulated:cortex-a72", "--threads", "4"]) == 2
    assert "one thread" in capsys.readouterr().err


def test_counts_are_labelled_as_what_they_are() -> None:
    counted = [Counted("m", "emulated:cortex-a72", "LiteRT", 3, 4, Instructions(4000, 3000, 2000, 1000))]
    assert as_dict(counted)["label"] == "instructions, not time"
    assert as_dict(counted)["simd_instructions"] == 3000
    assert "instructions, not time" in as_text(counted)
