"""A repository as it stands: what timestamp.json leads to, read and verified as a client would, but for expiry.

REPO/metadata/1.root.json ... timestamp.json     REPO/targets/ic/SHA256.ic-8.bundle     what the web server serves
REPO/.edgeloop/                                  the lock, and what waits for signatures; nobody else's business
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.deploy.release.roles import (
    CHANNELS,
    DAYS,
    DAYS_FIELD,
    MODELS,
    ROLES,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    WARN_SHARE,
)
from edgeloop.errors import RefusedError, UsageError
from edgeloop.paths import missing_hint
from edgeloop.release.channel import Channel, channel_path

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, Root, TargetFile

PRIVATE = ".edgeloop"
_LOCK = "lock"
_BRING_BACK = "it was damaged or tampered with: bring the folder back from what is served"
_MAX_METADATA_BYTES = 5_000_000
Signed = Mapping[str, "Metadata[Any]"]
"""Metadata by role."""


@dataclass(frozen=True)
class Repository:
    """A repository's live metadata by role."""

    folder: Path
    metadata: Signed

    @staticmethod
    def load(folder: Path) -> Repository:
        """Raises UsageError where there is none, RefusedError where it is damaged or was tampered with."""
        newest = newest_root(folder)
        if newest == 0:
            raise UsageError(
                f"{folder} is no release repository", hint=missing_hint(folder) or f"edgeloop release init {folder}"
            )
        found: dict[str, Metadata[Any]] = {ROOT: _read(folder, f"{newest}.root.json")}
        _check(found[ROOT], ROOT, found[ROOT].signed, "root.json")
        before = _read(folder, f"{newest - 1}.root.json") if newest > 1 else found[ROOT]
        _check(found[ROOT], ROOT, before.signed, f"{newest}.root.json")
        root = found[ROOT].signed
        found[TIMESTAMP] = _verified(folder, "timestamp.json", TIMESTAMP, root)
        version = found[TIMESTAMP].signed.snapshot_meta.version
        found[SNAPSHOT] = _verified(folder, f"{version}.snapshot.json", SNAPSHOT, root)
        for role in (TARGETS, MODELS, CHANNELS):
            delegator = root if role == TARGETS else found[TARGETS].signed
            meta = found[SNAPSHOT].signed.meta.get(f"{role}.json")
            if meta is None:
                raise RefusedError(f"{folder}: it was not made by edgeloop: it has no role {role}")
            found[role] = _verified(folder, f"{meta.version}.{role}.json", role, delegator)
            if found[role].signed.version != meta.version:
                raise RefusedError(f"{folder}: {meta.version}.{role}.json is another version", hint=_BRING_BACK)
        return Repository(folder, found)

    @property
    def root(self) -> Root:
        signed: Root = self.metadata[ROOT].signed
        return signed

    @property
    def files(self) -> Mapping[str, TargetFile]:
        """Bundles and deltas by target path."""
        found: Mapping[str, TargetFile] = self.metadata[MODELS].signed.targets
        return found

    def channels(self) -> dict[str, Channel]:
        """By name. Raises RefusedError for a description that is damaged."""
        names = [Path(path).stem for path in self.metadata[CHANNELS].signed.targets]
        return {name: self.channel(name) for name in sorted(names)}

    def channel(self, name: str) -> Channel:
        """An empty one where there is none of that name. Raises RefusedError where it is damaged."""
        target = self.metadata[CHANNELS].signed.targets.get(channel_path(name))
        return Channel(name, 0) if target is None else Channel.from_json(self.check(target).read_bytes())

    def path_of(self, target: TargetFile) -> Path:
        """Where the file of a target is."""
        return self.folder / "targets" / str(target.get_prefixed_paths()[0])

    def check(self, target: TargetFile) -> Path:
        """The file of a target, verified. Raises RefusedError."""
        from tuf.api.exceptions import LengthOrHashMismatchError

        path = self.path_of(target)
        try:
            with path.open("rb") as file:
                target.verify_length_and_hashes(file)
        except (OSError, LengthOrHashMismatchError) as error:
            why = error.strerror if isinstance(error, OSError) else "not what was signed"
            raise RefusedError(f"{path}: {why}", hint="the repository is damaged: bring the file back") from error
        return path


def days_of(root: Root, role: str) -> int:
    """How many days a role's metadata hold in this repository."""
    own = root.unrecognized_fields.get(DAYS_FIELD, {})
    days = own.get(role) if isinstance(own, dict) else None
    return days if isinstance(days, int) and days > 0 else DAYS[role]


def time_left(repository: Repository, now: datetime) -> dict[str, timedelta]:
    """Until a role's metadata expire, the next first; negative where they have."""
    left = {role: repository.metadata[role].signed.expires - now for role in ROLES}
    return dict(sorted(left.items(), key=lambda item: item[1]))


def expires_soon(repository: Repository, now: datetime) -> dict[str, timedelta]:
    """The roles to be renewed now, of `time_left`."""
    limits = {role: timedelta(days=days_of(repository.root, role) * WARN_SHARE) for role in ROLES}
    return {role: left for role, left in time_left(repository, now).items() if left < limits[role]}


def newest_root(folder: Path) -> int:
    """Its version; 0 where there is none. Clients ask for one after the other, so a gap ends the row."""
    version = 0
    while (folder / "metadata" / f"{version + 1}.root.json").is_file():
        version += 1
    return version


def clock() -> datetime:
    """Now, in whole seconds, as TUF writes times."""
    return datetime.now(timezone.utc).replace(microsecond=0)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One changes a repository at a time; the lock goes with the process. Raises UsageError for the second."""
    private = folder / PRIVATE
    try:
        private.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(private / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"release repository {folder}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"{folder} is being changed by another edgeloop release", hint="try again when it is done"
            ) from error
        yield
    finally:
        os.close(descriptor)


def _verified(folder: Path, name: str, role: str, delegator: Any) -> Metadata[Any]:
    metadata = _read(folder, name)
    _check(metadata, role, delegator, name)
    return metadata


def _check(metadata: Metadata[Any], role: str, delegator: Any, name: str) -> None:
    from tuf.api.exceptions import UnsignedMetadataError

    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (UnsignedMetadataError, ValueError) as error:
        raise RefusedError(
            f"release repository: {name} is not signed by those who may",
            hint=_BRING_BACK,
        ) from error


def _read(folder: Path, name: str) -> Metadata[Any]:
    from tuf.api.exceptions import DownloadError
    from tuf.api.metadata import Metadata
    from tuf.api.serialization import DeserializationError

    path = folder / "metadata" / name
    try:
        with path.open("rb") as file:
            return Metadata.from_bytes(file.read(_MAX_METADATA_BYTES))
    except (OSError, DeserializationError, DownloadError) as error:
        why = error.strerror if isinstance(error, OSError) else "not TUF metadata"
        raise RefusedError(f"release repository: {path}: {why}", hint="bring the file back") from error
