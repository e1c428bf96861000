"""The interface of a board: how it is recognized, where it says that it is held back, and what helps. stdlib only.

Everything is read below `root`, so that a copied or made-up tree does as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeloop import probes
from edgeloop.probes import ROOT, Gauges

__all__ = ["Board", "Gauges", "Note", "cooling_flags"]

_FREQUENCY_CAPPED = 1 << 1  # of the bits in `probes.THROTTLE_BITS`
_COOLING = "cool the board: a heat sink or a fan"


@dataclass(frozen=True)
class Note:
    """Something about this board that doctor says. `fails`: nothing will run as it is."""

    what: str
    fix: str
    fails: bool = False


def _no_notes(_root: Path) -> tuple[Note, ...]:
    return ()


def cooling_flags(root: Path) -> int | None:
    """Throttling as the kernel's thermal framework tells it: a CPU cooling device that is active caps the clock.

    None where no cooling device is a CPU's. Since boot: unknown, so only the bits for now are ever set.
    """
    flags: int | None = None
    for device in probes.known_paths(root, "sys/class/thermal/cooling_device*"):
        if (probes.read_text(device / "type") or "").startswith(("thermal-cpufreq", "cpufreq")):
            state = probes.read_integer(device / "cur_state")
            flags = (flags or 0) | (_FREQUENCY_CAPPED if state else 0)
    return flags


@dataclass(frozen=True)
class Board:
    """`id` is its target's. `compatible` are names from the device tree, `models` beginnings of the model's name.

    throttling: root -> the bits of `probes.THROTTLE_BITS`, None: unknown. hot_c: where its clock is held back.
    """

    id: str
    name: str
    compatible: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    has_usb3: bool = True
    hot_c: float = 80.0
    power_fix: str = "use the board's own power supply and a short, thick cable"
    cooling_fix: str = _COOLING
    throttling: Callable[[Path], int | None] = cooling_flags
    accelerator_temperature: str = ""
    """Files (a pattern below the root) with an accelerator's temperature in millidegrees."""
    notes: Callable[[Path], tuple[Note, ...]] = _no_notes

    def throttle_flags(self, *, root: Path = ROOT) -> int | None:
        """Under-voltage, capped clock and the like; `probes.describe_throttling` has the words."""
        return self.throttling(root)

    def is_throttled(self, *, root: Path = ROOT) -> bool | None:
        """Held back right now; None where nobody knows."""
        return probes.is_throttled(self.throttle_flags(root=root))

    def accelerator_c(self, *, root: Path = ROOT) -> float | None:
        """The hottest accelerator's temperature."""
        if not self.accelerator_temperature:
            return None
        found = (probes.read_integer(path) for path in root.glob(self.accelerator_temperature))
        return max((value / 1000 for value in found if value is not None), default=None)

    def gauges(self, *, pids: Sequence[int] = (), root: Path = ROOT) -> Gauges:
        """Everything at one moment; `rss_bytes` is the sum over `pids` (default: this process)."""
        return probes.read_gauges(
            pids=pids, root=root, throttle_flags=self.throttle_flags(root=root),
            accelerator_c=self.accelerator_c(root=root),
        )  # fmt: skip

    def fix_for(self, trouble: str) -> str:
        """What helps against one of the words of `probes.THROTTLE_BITS`."""
        return self.power_fix if trouble == probes.UNDER_VOLTAGE else self.cooling_fix
