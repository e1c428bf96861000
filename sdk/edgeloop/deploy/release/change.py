"""One change of a repository. A reader, whenever it looks and whenever we are killed, sees all of it or nothing.

Order: files of targets and numbered metadata first, which nobody asks for yet; then timestamp.json, which leads to
them; the next root last, which is asked for by its number. For the moment between those two the new timestamp is
signed by the keys of the old root and of the new one, as far as they are at hand.
"""

from __future__ import annotations

import copy
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.bundle.files import sync_directory, write_atomically
from edgeloop.deploy.release.keyring import Keyring, shown
from edgeloop.deploy.release.repository import PRIVATE, Repository, days_of
from edgeloop.deploy.release.roles import (
    CHANNELS,
    GROUPS,
    MODELS,
    OWNERS,
    ROLES,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    Group,
    group_of,
)
from edgeloop.errors import DeviceError, RefusedError, UsageError
from edgeloop.release.channel import Channel, channel_path

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, TargetFile

STAGED = "staged"
_TEMPORARY = re.compile(r"\.(([a-z]|\d+\.[a-z])+\.json|[0-9a-f]{64}\..+)\.[a-z0-9_]{8}", re.ASCII)
"""What `write_atomically` and `_put` write before they rename it."""
_CHUNK_BYTES = 256 << 10


@dataclass(frozen=True)
class Missing:
    """A role that lacks so many signatures; keys: fingerprints of those that could give them."""

    role: str
    count: int
    keys: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.role}: {self.count} more of {', '.join(self.keys)}"


@dataclass
class Change:
    """What a repository will be. before: what it is, None for a new one. staged: roles whose metadata stand already,
    with signatures that were given elsewhere."""

    folder: Path
    before: Repository | None
    metadata: dict[str, Metadata[Any]]
    keyring: Keyring
    now: datetime
    changed: set[str] = field(default_factory=set)
    staged: set[str] = field(default_factory=set)
    files: dict[Path, tuple[TargetFile, Path | bytes]] = field(default_factory=dict)

    @staticmethod
    def of(repository: Repository, keyring: Keyring, now: datetime) -> Change:
        """A change of what is there; nothing is written before `commit`."""
        return Change(repository.folder, repository, copy.deepcopy(dict(repository.metadata)), keyring, now)

    def add_file(self, target_path: str, source: Path | bytes) -> TargetFile:
        """A file of a publisher."""
        return self._add(MODELS, target_path, source)

    def set_channel(self, channel: Channel) -> Channel:
        """A channel's new description, with its next serial. Raises RefusedError for one that no device would read."""
        next_one = Channel.from_json(replace(channel, serial=channel.serial + 1).to_json())
        self._add(CHANNELS, channel_path(channel.channel), next_one.to_json())
        return next_one

    def set_groups(self, groups: Mapping[str, Group]) -> None:
        """Who may sign what from now on."""
        from edgeloop.deploy.release.setup import write_groups

        self.changed |= write_groups(self.metadata[ROOT].signed, self.metadata[TARGETS].signed, groups)

    def commit(self) -> tuple[Missing, ...]:
        """Sign and write. () when it is live; else which signatures a change of keys still lacks: it is kept aside for
        `release sign`.

        Raises UsageError where another change lacks a key, DeviceError where the disk cannot be written.
        """
        self._sign_all()
        waiting = [missing for role in ROLES for missing in self._missing(role)]
        waiting = [missing for missing in waiting if missing.role in GROUPS[OWNERS]] or waiting
        if waiting and not self.changed.isdisjoint((ROOT, TARGETS)):
            _writing(self.folder, self._stage)
            return tuple(waiting)
        for missing in waiting:
            raise UsageError(
                f"{self.folder}: {missing.role} must be signed by the {group_of(missing.role)} group, "
                "whose key is not at hand",
                hint=f"--key FILE of {', '.join(missing.keys)}",
            )
        _writing(self.folder, self._write)
        return ()

    def _add(self, role: str, target_path: str, source: Path | bytes) -> TargetFile:
        from tuf.api.metadata import TargetFile

        if isinstance(source, bytes):
            target = TargetFile.from_data(target_path, source)
        else:
            target = TargetFile.from_file(target_path, str(source))
        self.metadata[role].signed.targets[target_path] = target
        self.files[self.folder / "targets" / target.get_prefixed_paths()[0]] = (target, source)
        self.changed.add(role)
        return target

    def _sign_all(self) -> None:
        """Give what changed its next version and expiry, and what signatures are at hand: root first, as it says who
        signs the others, timestamp last."""
        for role in (ROOT, TARGETS, MODELS, CHANNELS):
            if role in self.changed or any(self._missing(role)):  # also where others may sign it from now on
                self._renew(role)
        snapshot, timestamp = self.metadata[SNAPSHOT].signed, self.metadata[TIMESTAMP].signed
        for role in (TARGETS, MODELS, CHANNELS):
            snapshot.meta[f"{role}.json"] = _meta(self.metadata[role])
        self._renew(SNAPSHOT)
        timestamp.snapshot_meta = _meta(self.metadata[SNAPSHOT])
        self._renew(TIMESTAMP)

    def _renew(self, role: str) -> None:
        signed = self.metadata[role].signed
        if role not in self.staged:
            signed.version = 1 if self.before is None else self.before.metadata[role].signed.version + 1
            signed.expires = self.now + timedelta(days=days_of(self.metadata[ROOT].signed, role))
        self.changed.add(role)
        sign(self.metadata[role], role, tuple(self._delegators(role)), self.keyring)

    def _delegators(self, role: str) -> Iterator[Any]:
        """Who says who signs a role: for those that a root names the root before, too."""
        if role in (MODELS, CHANNELS):
            yield self.metadata[TARGETS].signed
            return
        yield self.metadata[ROOT].signed
        if self.before is not None and ROOT in self.changed:
            yield self.before.root

    def _missing(self, role: str) -> tuple[Missing, ...]:
        needed = list(self._delegators(role))
        if role != ROOT:  # only a root must satisfy the one before
            del needed[1:]
        metadata = self.metadata[role]
        found = [each.get_verification_result(role, metadata.signed_bytes, metadata.signatures) for each in needed]
        return tuple(
            Missing(role, result.missing, tuple(sorted(shown(key) for key in result.unsigned.values())))
            for result in found
            if result.missing
        )

    def _stage(self) -> None:
        for role in {ROOT, TARGETS} & self.changed:
            path = self.folder / PRIVATE / STAGED / f"{role}.json"
            write_atomically(path, self.metadata[role].to_bytes())

    def _write(self) -> None:
        folder = self.folder / "metadata"
        for leftover in (*folder.glob(".*.json.*"), *self.folder.glob("targets/*/.*")):
            if _TEMPORARY.fullmatch(leftover.name):  # of one who was killed; the lock is ours
                leftover.unlink(missing_ok=True)
        for path, (target, source) in self.files.items():
            _put(path, target, source)
        for role in (MODELS, CHANNELS, TARGETS, SNAPSHOT):
            if role in self.changed:
                metadata = self.metadata[role]
                write_atomically(folder / f"{metadata.signed.version}.{role}.json", metadata.to_bytes())
        root = self.metadata[ROOT]
        root_path = folder / f"{root.signed.version}.root.json"
        if self.before is None:  # the first root is what makes the folder a repository
            write_atomically(folder / "timestamp.json", self.metadata[TIMESTAMP].to_bytes())
            write_atomically(root_path, root.to_bytes())
        else:
            write_atomically(folder / "timestamp.json", self.metadata[TIMESTAMP].to_bytes())
            if ROOT in self.changed:
                write_atomically(root_path, root.to_bytes())
        for role in self.staged:
            (self.folder / PRIVATE / STAGED / f"{role}.json").unlink(missing_ok=True)


def sign(metadata: Metadata[Any], role: str, delegators: tuple[Any, ...], keyring: Keyring) -> None:
    """Give metadata the signatures of all keys at hand that may sign them; valid ones that are there stay."""
    from securesystemslib.exceptions import UnverifiedSignatureError

    payload = metadata.signed_bytes
    kept = {}
    for delegator in delegators:
        for keyid in delegator.get_delegated_role(role).keyids:
            if keyid in keyring.keys:
                kept[keyid] = keyring.sign(keyid, payload)
            elif keyid in metadata.signatures:
                try:
                    delegator.get_key(keyid).verify_signature(metadata.signatures[keyid], payload)
                except UnverifiedSignatureError:
                    continue
                kept[keyid] = metadata.signatures[keyid]
    metadata.signatures.clear()
    metadata.signatures.update(kept)


def _meta(metadata: Metadata[Any]) -> Any:
    from tuf.api.metadata import MetaFile

    return MetaFile(metadata.signed.version)


def _writing(folder: Path, write: Any) -> None:
    try:
        write()
    except OSError as error:
        raise DeviceError(
            f"release repository {folder}: {error.strerror}", hint="what is served is as it was; mend it and try again"
        ) from error


def _put(path: Path, target: TargetFile, source: Path | bytes) -> None:
    """A target's file, whole and flushed, or not at all. Raises RefusedError where the source changed meanwhile."""
    if isinstance(source, bytes):
        write_atomically(path, source)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        digest = hashlib.sha256()
        with os.fdopen(descriptor, "wb") as out, source.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fchmod(out.fileno(), 0o644)
            os.fsync(out.fileno())
        if digest.hexdigest() != target.hashes["sha256"]:
            raise RefusedError(f"{source} changed while it was published")
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    sync_directory(path.parent)
