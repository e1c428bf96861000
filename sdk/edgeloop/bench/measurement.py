"""What an inference costs, whoever measured it: `measure(model) -> Measurement`, for boards and emulators alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from edgeloop.bundle import Profile

LATENCY_UNIT, INSTRUCTIONS_UNIT = "ms", "SIMD instructions"


@dataclass(frozen=True)
class Measurement:
    """value: of one inference, in `unit`, on `device`; lower is better, and only values of one device compare.

    label: what must be said beside it. profile: where it is a latency, all of it as it travels in a bundle.
    """

    model: str
    device: str
    value: float
    unit: str
    label: str = ""
    profile: Profile | None = None

    def text(self) -> str:
        """For people."""
        value = f"{self.value:.3g}" if self.unit == LATENCY_UNIT else f"{self.value:,.0f}"
        return f"{value} {self.unit} on {self.device}{f' ({self.label})' if self.label else ''}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Measurer(Protocol):
    """device: its URL."""

    @property
    def device(self) -> str: ...

    def measure(self, model: bytes, name: str = ...) -> Measurement: ...

    def measure_all(self, models: Mapping[str, bytes]) -> dict[str, Measurement]:
        """By name; times are taken in turns, so that a clock that drifts hits all alike."""
