"""Where a device stands with its versions, as plain values: for `edgeloop-agent versions` and for whoever asks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop_agent.delivery.package_folders import AGENT, CONFIG, package_folder, read_base

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


def packages_as_dict(state: Path) -> dict[str, dict[str, Any] | None] | None:
    """Of agent and config, by kind: None for one that is what root installed. None where no service looks for them."""
    base = read_base(state)
    if base is None:
        return None
    folders = {kind: package_folder(state, base, kind) for kind in (AGENT, CONFIG)}
    return {
        kind: {"name": kind, "link": str(folder.current), **standing_as_dict(folder.standing())}
        if folder.folder.is_dir()
        else None
        for kind, folder in folders.items()
    }


def _version(version: Version | None) -> dict[str, Any] | None:
    return None if version is None else {"number": version.number, "digest": version.digest}
