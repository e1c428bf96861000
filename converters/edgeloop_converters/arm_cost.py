"""What a float graph would cost on an Arm core as int8: instructions, predicted op by op, without quantizing it.

Kernels take the same instructions whatever the scales and codes are, so every op is measured as an int8 op with scales
of no meaning; `edgeloop.devices.emulated.op_costs` keeps what was measured.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from edgeloop.bench.instructions import Instructions
from edgeloop.devices.emulated.cpus import CPUS, SCHEME, Cpu, cpu_of
from edgeloop.devices.emulated.meter import InstructionMeter
from edgeloop.devices.emulated.op_costs import CostTable, Meter, predicted
from edgeloop.errors import UsageError
from edgeloop.graph import NO_TENSOR, Graph, Op, Quantization, Tensor
from edgeloop.progress import Progress
from edgeloop.targets import Target
from edgeloop_converters.shared_work import Around

_SCALE, _ZERO_POINT = 1 / 256, -128  # what SOFTMAX and LOGISTIC must have; others take any
_WEIGHT_SCALE = 1 / 200
_OUTPUTS = {"TANH": (1 / 128, 0)}
_WEIGHTED = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0}
"""Op -> the weights' axis that has a scale per channel."""
_WEIGHTS_AT, _BIAS_AT = 1, 2


class ArmCost:
    """Callable: cost of a graph on one core, SIMD instructions of one int8 inference. The unit of `prune`'s goal."""

    def __init__(self, meter: Meter, table: CostTable) -> None:
        self._meter, self._table = meter, table

    def __call__(self, graph: Graph) -> float:
        return float(self.instructions(graph).simd_instructions)

    def instructions(self, graph: Graph) -> Instructions:
        """All kinds; see `op_costs.predicted`."""
        return predicted(int8_twin(graph), self._meter, self._table)

    def counted(self, file: bytes) -> Instructions:
        """Of a finished file, run as a whole."""
        return self._meter.measure(file).cost


def core_of(target: Target) -> Cpu:
    """The core that stands for a target. Raises UsageError where none does."""
    for cpu in CPUS.values():
        if cpu.name == target.cpu:
            return cpu
    raise UsageError(f"{target.id} has a {target.cpu}, which is not emulated", hint=f"emulated are {', '.join(CPUS)}")


def counting_core(target: Target, device: str = "") -> Cpu:
    """The core that `device` names where it is an emulated one, else the target's. Raises UsageError as `core_of`."""
    return cpu_of(device) if device.startswith(SCHEME) else core_of(target)


def can_count(target: Target, device: str = "") -> bool:
    """Whether inferences run on a core that can be emulated, and this host has what that takes."""
    if target.has_edgetpu and not device.startswith(SCHEME):
        return False
    try:
        counting_core(target, device)
    except UsageError:
        return False
    return all(shutil.which(tool) for tool in ("qemu-aarch64", "cc", "apt-get", "dpkg-deb"))


def shared_arm_cost(target: Target, around: Around, progress: Progress) -> ArmCost:
    """One for all who ask during a conversion: the meter's process takes seconds to start. Raises as `arm_cost`."""
    cpu = counting_core(target, around.device)
    return around.work.opened(f"instructions on {cpu.name}", lambda: arm_cost(cpu, progress))


@contextmanager
def arm_cost(on: Target | Cpu, progress: Progress | None = None) -> Iterator[ArmCost]:
    """The cost on a core, or on a target's, by the instruction meter. Raises UsageError, DeviceError as that does."""
    cpu = on if isinstance(on, Cpu) else core_of(on)
    with InstructionMeter(cpu, progress) as meter:
        yield ArmCost(meter, CostTable(f"{meter.device}-int8"))


def int8_twin(graph: Graph) -> Graph:
    """The same ops on int8 tensors of the same shapes; what it computes has no meaning."""
    twin = graph.copy()
    tensors = twin.main.tensors
    known: dict[int, Tensor] = {}
    for op in twin.main.ops:
        known.update(_weights(op, tensors))
    makers = {i: op.name for op in twin.main.ops for i in op.outputs}
    for index, tensor in enumerate(tensors):
        if index not in known and tensor.dtype == "float32":
            affine = Quantization.per_tensor(*_OUTPUTS.get(makers.get(index, ""), (_SCALE, _ZERO_POINT)))
            data = None if tensor.data is None else np.zeros(tensor.shape, np.int8)
            known[index] = replace(tensor, dtype="int8", data=data, quantization=affine)
    for index, tensor in known.items():
        tensors[index] = tensor
    return twin


def _weights(op: Op, tensors: Sequence[Tensor]) -> Mapping[int, Tensor]:
    """Weights and bias of a layer as int8 per channel and int32, by index; {} where they are no float constants."""
    axis = _WEIGHTED.get(op.name)
    if axis is None or len(op.inputs) <= _WEIGHTS_AT:
        return {}
    weights = tensors[op.inputs[_WEIGHTS_AT]]
    if weights.data is None or weights.dtype != "float32":
        return {}
    channels = weights.shape[axis]
    scales, zeros = np.full(channels, _WEIGHT_SCALE, np.float32), np.zeros(channels, np.int64)
    codes = np.ones(weights.shape, np.int8)
    found = {
        op.inputs[_WEIGHTS_AT]: replace(
            weights, dtype="int8", data=codes, quantization=Quantization(scales, zeros, axis)
        )
    }
    bias = op.inputs[_BIAS_AT] if len(op.inputs) > _BIAS_AT else NO_TENSOR
    if bias != NO_TENSOR and tensors[bias].data is not None:
        affine = Quantization(scales * np.float32(_SCALE), zeros)
        data = np.zeros(tensors[bias].shape, np.int32)
        found[bias] = replace(tensors[bias], dtype="int32", data=data, quantization=affine)
    return found
