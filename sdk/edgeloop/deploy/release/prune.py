"""What no channel offers any more, out of a repository: its entries from the signed metadata first, then the files.

A device that fetches such a file in that moment gets a 404 and goes on at its next poll.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from edgeloop.deploy.release.change import Change
from edgeloop.deploy.release.repository import Repository
from edgeloop.deploy.release.roles import CHANNELS, MODELS, ROLES, ROOT, TIMESTAMP
from edgeloop.errors import DeviceError
from edgeloop.release.channel import Channel

_TARGET = re.compile(r"[0-9a-f]{64}\..+", re.ASCII)
_METADATA = re.compile(r"(\d{1,9})\.([a-z]+)\.json", re.ASCII)
_KEPT_METADATA = 2
"""Of each role: a poll that began before the last change still finds what its timestamp leads to."""


def unwanted(files: Collection[str], channels: Iterable[Channel]) -> tuple[str, ...]:
    """Target paths that no channel offers, neither as a full file nor as a delta of one. Pure."""
    offers = [offer for channel in channels for offer in channel.offers]
    wanted = {offer.target_path for offer in offers}
    wanted |= {delta.target_path for offer in offers for delta in offer.deltas}
    return tuple(sorted(set(files) - wanted))


def forget(change: Change, paths: Collection[str]) -> None:
    """Take them out of what publishers have signed, with the change's commit."""
    for path in paths:
        del change.metadata[MODELS].signed.targets[path]
    if paths:
        change.changed.add(MODELS)


def leftovers(repository: Repository) -> list[Path]:
    """Files that nothing in the live metadata leads to, and metadata of earlier states; roots are all kept, as devices
    follow them one by one."""
    metadata = repository.metadata
    targets = [*metadata[MODELS].signed.targets.values(), *metadata[CHANNELS].signed.targets.values()]
    led_to = {repository.path_of(target) for target in targets}
    files = [path for path in (repository.folder / "targets").glob("*/*") if _TARGET.fullmatch(path.name)]
    found = [path for path in files if path not in led_to]
    for path in (repository.folder / "metadata").glob("*.json"):
        named = _METADATA.fullmatch(path.name)
        if named is not None and named[2] in set(ROLES) - {ROOT, TIMESTAMP}:
            newest: int = metadata[named[2]].signed.version
            if int(named[1]) <= newest - _KEPT_METADATA:
                found.append(path)
    return sorted(found)


def remove(paths: Iterable[Path]) -> int:
    """How many bytes it was. Raises DeviceError."""
    count = 0
    for path in paths:
        try:
            size = path.stat().st_size
            path.unlink()
        except OSError as error:
            raise DeviceError(f"{path}: {error.strerror}", hint="release prune goes on where it stopped") from error
        count += size
    return count
