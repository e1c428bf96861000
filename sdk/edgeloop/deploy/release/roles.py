"""Who signs what, and for how long it holds.

    root        who may sign what else          owners       may stay offline
    targets     who may sign the next two       owners       may stay offline
    models      the files: bundles and deltas   publishers   where bundles are made
    channels    which of them are offered       online       where rollouts are steered and halted
    snapshot    which metadata belong together  online
    timestamp   what is the newest              online

An online key therefore chooses among what publishers signed, and cannot bring anything in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ROOT, TARGETS, MODELS, CHANNELS, SNAPSHOT, TIMESTAMP = (
    "root", "targets", "models", "channels", "snapshot", "timestamp",
)  # fmt: skip
ROLES = (ROOT, TARGETS, MODELS, CHANNELS, SNAPSHOT, TIMESTAMP)
OWNERS, PUBLISHERS, ONLINE = "owners", "publishers", "online"
GROUPS: Mapping[str, tuple[str, ...]] = {
    OWNERS: (ROOT, TARGETS),
    PUBLISHERS: (MODELS,),
    ONLINE: (CHANNELS, SNAPSHOT, TIMESTAMP),
}
"""A group's members and threshold are those of each of its roles."""
DELEGATED: Mapping[str, tuple[str, ...]] = {CHANNELS: ("channels/*",), MODELS: ("*/*",)}
"""Target paths of a role, in the order in which a client asks; the first is the last to be asked for what is its."""
DAYS: Mapping[str, int] = {ROOT: 365, TARGETS: 365, MODELS: 365, CHANNELS: 30, SNAPSHOT: 30, TIMESTAMP: 30}
"""How long a role's metadata hold unless `init` says otherwise: from then on devices take nothing more."""
DAYS_FIELD = "x-edgeloop-days"
"""Of root, where a repository keeps its own DAYS."""
WARN_SHARE = 0.25
"""What has less than this share of its time left is warned about, and renewed by `refresh`."""


@dataclass(frozen=True)
class Group:
    """Keys by TUF key id -> raw public key (32 bytes). threshold: so many must sign."""

    keys: Mapping[str, bytes]
    threshold: int = 1


def group_of(role: str) -> str:
    """The group that signs a role."""
    return next(group for group, roles in GROUPS.items() if role in roles)
