"""What a folder of versions remembers beside its links: trial, highest number, what failed why. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeloop_agent.delivery.update import Trial, Version

_MAX_FAILED = 32
"""So many refused versions are remembered; the oldest are forgotten first."""


@dataclass(frozen=True)
class Record:
    """Fields as in `update.Standing`."""

    trial: Trial | None = None
    highest: int = 0
    failed: Mapping[str, str] | None = None
    well: Sequence[str] = ()

    def encode(self) -> bytes:
        trial = None
        if self.trial is not None:
            trial = {**vars(self.trial.version), "starts": self.trial.starts}
        said = {"trial": trial, "highest": self.highest, "failed": dict(self.failed or {}), "well": list(self.well)}
        return json.dumps(said).encode()


def decode_record(raw: bytes) -> Record:
    """The inverse of `encode`. Raises ValueError, KeyError, TypeError or AttributeError for what is none."""
    said = json.loads(raw)
    trial = said["trial"]
    failed = {str(digest): str(why) for digest, why in said["failed"].items()}
    well = tuple(map(str, said.get("well", ())))
    if trial is None:
        return Record(None, int(said["highest"]), failed, well)
    version = Version(int(trial["number"]), str(trial["digest"]))
    return Record(Trial(version, int(trial["starts"])), int(said["highest"]), failed, well)


def latest(failed: Mapping[str, str]) -> dict[str, str]:
    """As many failures as are remembered."""
    return dict(list(failed.items())[-_MAX_FAILED:])
