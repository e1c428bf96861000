"""What one inference of a file costs: instructions on the target's core where it can be emulated here, work anyway.

No latency of this host: on x86-64 int8 kernels take as long for 8 channels as for 64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeloop.bench.instructions import LABEL, Instructions
from edgeloop.devices.emulated.meter import is_built
from edgeloop.errors import DeviceError
from edgeloop.graph import Graph
from edgeloop.progress import Progress
from edgeloop.targets import Target
from edgeloop_converters.arm_cost import ArmCost, can_count, counting_core, shared_arm_cost
from edgeloop_converters.passes.figures import macs
from edgeloop_converters.shared_work import Around

MACS = "multiply-accumulates"


@dataclass(frozen=True)
class RunningCost:
    """Of one inference; simd_instructions: None where they are not counted."""

    macs: float
    simd_instructions: float | None = None

    def plus(self, other: RunningCost, share: float) -> RunningCost:
        """On average, where the other follows for this share of the inferences."""
        if self.simd_instructions is None or other.simd_instructions is None:
            return RunningCost(self.macs + share * other.macs)
        return RunningCost(self.macs + share * other.macs, self.simd_instructions + share * other.simd_instructions)

    def share_of(self, whole: RunningCost) -> float:
        """In instructions, where both have them."""
        if self.simd_instructions is not None and whole.simd_instructions:
            return self.simd_instructions / whole.simd_instructions
        return self.macs / max(whole.macs, 1.0)


@dataclass(frozen=True)
class Counter:
    """unit: of what costs are compared in, for people. of: a file's cost."""

    unit: str
    of: Callable[[bytes], RunningCost]


BY_WORK = Counter(MACS, lambda file: RunningCost(macs(Graph.read(file))))


def counter_for(target: Target, around: Around, progress: Progress) -> Counter:
    """Files are run, where the core can be emulated here; else by work alone. Where that fails, a note says why."""
    return _counter(target, around, progress, lambda cost, file: cost.counted(file))


def predictor_for(target: Target, around: Around, progress: Progress) -> Counter:
    """As `counter_for`, of float models: what they would cost as int8, op by op, neither quantized nor run. By work
    where the emulated system would have to be built for it first."""
    if not is_built():
        return BY_WORK
    return _counter(target, around, progress, lambda cost, file: cost.instructions(Graph.read(file)))


def _counter(
    target: Target, around: Around, progress: Progress, count: Callable[[ArmCost, bytes], Instructions]
) -> Counter:
    if not can_count(target, around.device):
        return BY_WORK
    try:
        cost = shared_arm_cost(target, around, progress)
    except DeviceError as error:
        progress.note(f"costs in {MACS}, because instructions cannot be counted here: {error.message}")
        return BY_WORK

    def counted(file: bytes) -> RunningCost:
        return RunningCost(macs(Graph.read(file)), float(count(cost, file).simd_instructions))

    return Counter(f"SIMD instructions on {counting_core(target, around.device).name} ({LABEL})", counted)
