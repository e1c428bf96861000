"""What a pruning goal may count: a table, name -> how to get the cost of a float graph.

No latency of this host is among them: on x86-64 int8 kernels take as long for 8 channels as for 64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.progress import Progress
from edgeloop.targets import Target
from edgeloop_converters.shared_work import Around

if TYPE_CHECKING:
    from edgeloop_converters.passes.figures import Cost


@dataclass(frozen=True)
class CostSetting:
    target: Target
    around: Around
    progress: Progress


@dataclass(frozen=True)
class CostKind:
    """unit: of a value, for people."""

    unit: str
    load: Callable[[CostSetting], Cost]


def cost_named(name: str, setting: CostSetting) -> Cost:
    """The cost of a graph by a name of the table. Raises UsageError, DeviceError where it cannot be had here."""
    return COSTS[name].load(setting)


def _macs(_: CostSetting) -> Cost:
    from edgeloop_converters.passes.figures import macs

    return macs


def _bytes(_: CostSetting) -> Cost:
    from edgeloop_converters.passes.figures import weight_bytes

    return weight_bytes


def _arm(setting: CostSetting) -> Cost:
    from edgeloop_converters.arm_cost import shared_arm_cost

    return shared_arm_cost(setting.target, setting.around, setting.progress)


COSTS: Mapping[str, CostKind] = {
    "macs": CostKind("multiply-accumulates", _macs),
    "arm": CostKind("SIMD instructions", _arm),
    "bytes": CostKind("bytes of float weights", _bytes),
}
