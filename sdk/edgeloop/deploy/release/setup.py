"""A new repository, and other keys for one: groups of keys turned into TUF roles and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.bundle.trust import PublicKey
from edgeloop.deploy.release.change import STAGED, Change, Missing
from edgeloop.deploy.release.keyring import Keyring, key_id, tuf_key
from edgeloop.deploy.release.repository import PRIVATE, Repository, newest_root
from edgeloop.deploy.release.roles import (
    CHANNELS,
    DAYS_FIELD,
    DELEGATED,
    GROUPS,
    MODELS,
    ONLINE,
    OWNERS,
    PUBLISHERS,
    ROLES,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    Group,
    group_of,
)
from edgeloop.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, Root, Targets

MAX_DAYS = 3650


def create(
    folder: Path, groups: Mapping[str, Group], keyring: Keyring, now: datetime, days: Mapping[str, int] | None = None
) -> tuple[Missing, ...]:
    """A new, empty repository; what owners must still sign, () when it is live. Raises UsageError where one is there
    or `days` are out of range. Under `locked`.
    """
    from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

    if newest_root(folder):
        raise UsageError(f"{folder} is a release repository already", hint=f"edgeloop release status {folder}")
    if any((folder / "metadata").glob("[2-9]*.json")):  # more than a first command that was killed leaves
        raise RefusedError(
            f"{folder} has metadata but no root: devices would not know a new one", hint="bring 1.root.json back"
        )
    days = dict(days or {})
    for role, count in days.items():
        if role not in ROLES or not 1 <= count <= MAX_DAYS:
            raise UsageError(f"{role}={count}: days are ROLE=1..{MAX_DAYS}", hint=f"roles: {', '.join(ROLES)}")
    root = Root(expires=now, consistent_snapshot=True, unrecognized_fields={DAYS_FIELD: days} if days else None)
    made: dict[str, Metadata[Any]] = {
        ROOT: Metadata(root),
        TARGETS: Metadata(Targets(expires=now)),
        MODELS: Metadata(Targets(expires=now)),
        CHANNELS: Metadata(Targets(expires=now)),
        SNAPSHOT: Metadata(Snapshot(expires=now)),
        TIMESTAMP: Metadata(Timestamp(expires=now)),
    }
    change = Change(folder, None, made, keyring, now, changed=set(ROLES))
    change.set_groups(groups)
    return change.commit()


def staged(folder: Path) -> dict[str, Metadata[Any]]:
    """What waits for owners' signatures, by role. Raises RefusedError for a file that is damaged."""
    from tuf.api.metadata import Metadata
    from tuf.api.serialization import DeserializationError

    found = {}
    for role in (ROOT, TARGETS):
        path = folder / PRIVATE / STAGED / f"{role}.json"
        if path.is_file():
            try:
                found[role] = Metadata.from_bytes(path.read_bytes())
            except DeserializationError as error:
                raise RefusedError(f"{path} is no TUF metadata", hint="remove it and change the keys again") from error
    return found


def finish(folder: Path, keyring: Keyring, now: datetime) -> tuple[Missing, ...]:
    """Sign what waits for signatures, and make it live where that is enough; what is still missing. Under `locked`.

    Raises UsageError where nothing waits, or the repository was changed since.
    """
    waiting = staged(folder)
    if not waiting:
        raise UsageError(f"{folder}: nothing waits for a signature")
    if newest_root(folder):
        change = Change.of(Repository.load(folder), keyring, now)
        for role, metadata in waiting.items():
            if metadata.signed.version != change.metadata[role].signed.version + 1:
                raise UsageError(
                    f"{folder}: {role} was changed since this was prepared", hint="change the keys once more"
                )
    else:
        from tuf.api.metadata import Metadata, Snapshot, Targets, Timestamp

        empty: dict[str, Metadata[Any]] = {role: Metadata(Targets(expires=now)) for role in (MODELS, CHANNELS)}
        empty |= {SNAPSHOT: Metadata(Snapshot(expires=now)), TIMESTAMP: Metadata(Timestamp(expires=now))}
        change = Change(folder, None, empty, keyring, now, changed=set(ROLES))
    change.metadata.update(waiting)
    change.changed |= waiting.keys()
    change.staged |= waiting.keys()
    return change.commit()


def read_groups(repository: Repository) -> dict[str, Group]:
    """Who may sign what."""
    root: Any = repository.root
    delegations = repository.metadata[TARGETS].signed.delegations
    places = {OWNERS: (root, ROOT), PUBLISHERS: (delegations, MODELS), ONLINE: (root, TIMESTAMP)}
    groups = {}
    for group, (place, role) in places.items():
        found = place.roles[role]
        keys = {keyid: bytes.fromhex(place.keys[keyid].keyval["public"]) for keyid in found.keyids}
        groups[group] = Group(keys, found.threshold)
    return groups


def write_groups(root: Root, targets: Targets, groups: Mapping[str, Group]) -> set[str]:
    """Put them into the metadata; the roles of those that changed. Raises UsageError for a group that could never
    sign."""
    from tuf.api.metadata import DelegatedRole, Delegations, Role

    for name, group in groups.items():
        if not 1 <= group.threshold <= len(group.keys):
            raise UsageError(
                f"the {name} have {len(group.keys)} keys, {group.threshold} must sign",
                hint="add keys, or ask for fewer",
            )
    by_role = {role: groups[group_of(role)] for role in ROLES}
    before = root.to_dict(), targets.to_dict()
    top = [role for role in ROLES if role not in DELEGATED]
    root.roles = {role: Role(sorted(by_role[role].keys), by_role[role].threshold) for role in top}
    root.keys = {keyid: tuf_key(raw) for role in top for keyid, raw in by_role[role].keys.items()}
    targets.delegations = Delegations(
        keys={keyid: tuf_key(raw) for role in DELEGATED for keyid, raw in by_role[role].keys.items()},
        roles={
            role: DelegatedRole(role, sorted(by_role[role].keys), by_role[role].threshold, True, list(paths))
            for role, paths in DELEGATED.items()
        },
    )
    after = root.to_dict(), targets.to_dict()
    return {role for role, was, now in zip((ROOT, TARGETS), before, after, strict=True) if was != now}


def group_with(keys: Collection[PublicKey], threshold: int = 1) -> Group:
    """Of these keys."""
    return Group({key_id(key.raw): key.raw for key in keys}, threshold)


def with_key(groups: Mapping[str, Group], names: Collection[str], key: PublicKey) -> dict[str, Group]:
    """The key is one more in the named groups."""
    added = {key_id(key.raw): key.raw}
    return {name: replace(g, keys={**g.keys, **added}) if name in names else g for name, g in groups.items()}


def without_key(groups: Mapping[str, Group], names: Collection[str], raw: bytes) -> dict[str, Group]:
    """The key is in the named groups no longer. Raises UsageError where it is in none, or too few would be left."""
    keyid = key_id(raw)
    if not any(keyid in groups[name].keys for name in names):
        raise UsageError(f"no such key in {', '.join(names)}", hint="edgeloop release keys REPO shows them")
    return {
        name: replace(g, keys={k: v for k, v in g.keys.items() if k != keyid}) if name in names else g
        for name, g in groups.items()
    }


def one_key(keyring: Keyring) -> dict[str, Group]:
    """The simplest: whatever keys are at hand may each sign everything."""
    everybody = group_with([key.public_key for key in keyring.keys.values()])
    return dict.fromkeys(GROUPS, everybody)
