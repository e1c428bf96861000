"""The table `[hard_samples]` of the agent's config file. No flag turns it on: it is a decision of whoever owns the
device, and it stands where that is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from edgeloop.errors import ConfigError
from edgeloop.tomlfile import nearest_key

FOLDER = "hard_samples"
"""Below a model's own folder."""

_BOUNDS: Mapping[str, tuple[float, float]] = {
    "max_per_day": (1, 100_000),
    "max_bytes": (10_000, 100 << 30),
    "below_confidence": (0, 1),
}


@dataclass(frozen=True)
class HardSampleSettings:
    """max_per_day: samples that are kept, of each model. max_bytes: what those that wait may take on the disk.

    below_confidence: of the best class (or detection); 0 asks for none of these. audit_disagreements: frames on which
    the gate would have given another result than the model did (`edgeloop_agent.activation.gate`).
    """

    enabled: bool = False
    max_per_day: int = 50
    max_bytes: int = 64 << 20
    below_confidence: float = 0.5
    audit_disagreements: bool = True

    def for_worker(self, folder: Path) -> dict[str, Any] | None:
        """What the worker is told; None where it has nothing to do. folder: of the model."""
        return {**asdict(self), "folder": str(folder / FOLDER)} if self.enabled else None


OFF = HardSampleSettings()


def read_settings(table: Any, file: Path | str) -> HardSampleSettings:
    """Raises ConfigError."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"agent config {file}: 'hard_samples' is a table", hint="[hard_samples] enabled = true")
    known = {field.name: type(field.default) for field in fields(HardSampleSettings)}
    for name, value in table.items():
        where = f"agent config {file}: [hard_samples] {name}"
        if name not in known:
            raise ConfigError(f"{where}: no such key", hint=nearest_key(name, list(known)))
        if known[name] is bool:
            if not isinstance(value, bool):
                raise ConfigError(f"{where} must be true or false")
            continue
        low, high = _BOUNDS[name]
        is_number = isinstance(value, int if known[name] is int else (int, float)) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:
            raise ConfigError(f"{where} must be {low:g} to {high:g}")
    return HardSampleSettings(**table)
