"""Where a device stands with its versions, as plain values: for `edgeloop-agent versions` and for whoever asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeloop_agent.delivery.update import Standing, Version


def standing_as_dict(standing: Standing) -> dict[str, Any]:
    """Of one name. Keys as in `versions --json`."""
    return {
        "running": _version(standing.running),
        "committed": _version(standing.committed),
        "on_trial": standing.trial is not None,
        "highest": standing.highest,
        "failed": dict(standing.failed),
        "kept": [_version(version) for version in standing.kept],
    }


def _version(version: Version | None) -> dict[str, Any] | None:
    return None if version is None else {"number": version.number, "digest": version.digest}
