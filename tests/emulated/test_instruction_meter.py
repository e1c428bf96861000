"""The instruction meter on a real emulated Arm CPU: `edgeloop bench --device emulated:CPU`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeloop.cli.main import main
from edgeloop.devices.emulated.cpus import CPUS
from edgeloop.devices.emulated.meter import InstructionMeter
from edgeloop.devices.emulated.op_costs import CostTable, predicted
from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop_converters.arm_cost import ArmCost
from support.agents import residual_int8
from support.debian_root import debian_root

pytestmark = [pytest.mark.emulated, pytest.mark.slow]


@pytest.fixture(scope="module")
def home() -> str:
    """A home that stays: what the meter needs is fetched once, not in every test."""
    tree = debian_root()  # skips where Debian's packages are not to be had
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 with plugins is missing: apt-get install qemu-user")
    return str(tree.path.parent / "meter")


@pytest.fixture(scope="module")
def meter(home: str) -> Iterator[InstructionMeter]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGELOOP_HOME", home)
        with InstructionMeter(CPUS["cortex-a76"]) as meter:
            yield meter


def test_the_same_model_takes_the_same_simd_instructions_each_time(meter: InstructionMeter) -> None:
    model = residual_int8()
    first, second = meter.measure(model).cost, meter.measure(model).cost
    assert first.simd_instructions == pytest.approx(second.simd_instructions, rel=1e-3)  # copies depend on addresses
    assert first.dot_instructions == second.dot_instructions > 0
    assert abs(first.instructions - second.instructions) < 0.05 * first.instructions


def test_a_model_is_predicted_by_its_ops(meter: InstructionMeter, shared_data: Path, tmp_path: Path) -> None:
    table = CostTable(meter.device, tmp_path)
    for name in ("pretrainedResnet_quant", "kws_ref_model", "pretrainedResnet_large_int8"):
        model = (shared_data / f"models/mlperf_tiny/{name}.tflite").read_bytes()
        whole, sum_of_ops = meter.measure(model).cost, predicted(model, meter, table)
        assert sum_of_ops.simd_instructions == pytest.approx(whole.simd_instructions, rel=0.02)
        assert sum_of_ops.instructions == pytest.approx(whole.instructions, rel=0.02)


def test_a_float_model_tells_what_it_will_cost_as_int8(
    meter: InstructionMeter, shared_data: Path, tmp_path: Path
) -> None:
    cost = ArmCost(meter, CostTable(f"{meter.device}-int8", tmp_path))
    folder = shared_data / "models/mlperf_tiny"
    foretold = cost(Graph.read(folder / "pretrainedResnet.tflite"))
    assert foretold == pytest.approx(
        meter.measure(folder / "pretrainedResnet_quant.tflite").cost.simd_instructions, rel=0.02
    )


def test_a_damaged_model_is_refused_and_the_meter_goes_on(meter: InstructionMeter) -> None:
    with pytest.raises(UsageError, match="broken"):
        meter.measure(b"TFL3 no model", "broken")
    assert meter.measure(residual_int8()).cost.instructions > 0


def test_bench_says_instructions_and_never_times(
    home: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shared_data: Path
) -> None:
    monkeypatch.setenv("EDGELOOP_HOME", home)
    model = shared_data / "models/mlperf_tiny/pretrainedResnet_quant.tflite"
    found = {}
    for cpu in ("cortex-a72", "cortex-a76"):
        assert main(["bench", str(model), "--device", f"emulated:{cpu}", "--per-op", "--json"]) == 0
        found[cpu] = json.loads(capsys.readouterr().out)
        assert found[cpu]["label"] == "instructions, not time"
        assert not [key for key in found[cpu] if key.endswith("_ms")]
        assert found[cpu]["op_groups"][0]["op"] == "CONV_2D"
    assert found["cortex-a72"]["dot_instructions"] == 0, "an A72 has none"
    assert found["cortex-a76"]["dot_instructions"] > 0
    assert found["cortex-a76"]["simd_instructions"] < 0.5 * found["cortex-a72"]["simd_instructions"]
