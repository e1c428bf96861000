"""What edgeloop knows of a board, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Accelerator:
    """A chip beside the CPU. `usb_ids`: the vendor:product pairs it shows before and after its firmware is loaded."""

    name: str
    delegate: str
    sram_bytes: int
    usb_ids: tuple[str, ...] = ()
    device_node: str = ""


@dataclass(frozen=True)
class Target:
    """A board, as conversion sees it; what a board says of its health is in `edgeloop.boards`.

    Sizes in bytes; `channel_tile` is the step in which int8 kernel widths pay off on this CPU.
    """

    id: str
    name: str
    architecture: str
    """As `uname -m` has it: x86_64, aarch64, armv7l."""
    cpu: str
    cores: int
    ram_bytes: int
    channel_tile: int
    has_dot_product: bool
    delegates: tuple[str, ...]
    """Wish list in fallback order."""
    accelerator: Accelerator | None = None
    notes: str = ""

    @property
    def has_edgetpu(self) -> bool:
        return self.accelerator is not None and self.accelerator.delegate == "edgetpu"
