"""Where an agent's reports wait on the disk, and how many: the settings' side of the spool."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SpoolPlace:
    """The spool's file and its bounds."""

    path: Path
    max_bytes: int
    max_age_s: float
