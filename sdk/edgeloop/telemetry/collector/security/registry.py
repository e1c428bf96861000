"""The devices that belong here: group, tags, credential, status."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, or_, select, update

from edgeloop.errors import DataError
from edgeloop.telemetry.collector.security.audit import Audit
from edgeloop.telemetry.collector.security.records import check_name, reading, tags_of, tags_text, writing
from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.schema import DEVICES
from edgeloop.telemetry.store.tables.registry import REGISTRY

ENROLLED, REVOKED, KNOWN = "enrolled", "revoked", "known"
CERTIFICATE, BEARER = "certificate", "bearer"


@dataclass(frozen=True)
class RegisteredDevice:
    """See `REGISTRY` for the fields. last_seen_s: of its last report; None before the first one."""

    device: str
    group: str
    tags: dict[str, str]
    status: str
    kind: str
    credential: str | None
    expires_s: float | None
    renewal: str | None
    renewal_expires_s: float | None
    enrolled_s: float | None
    enrolled_from: str
    token_id: str
    proof: str = field(repr=False)
    last_seen_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """For --json: no proof, the credential as its fingerprint."""
        left_out = ("proof", "renewal", "renewal_expires_s")
        return {key: value for key, value in self.__dict__.items() if key not in left_out}

    def has(self, group: str | None, tags: Mapping[str, str]) -> bool:
        """Whether it is in the group (None: any) and has all the tags."""
        return group in (None, self.group) and all(self.tags.get(key) == value for key, value in tags.items())


@dataclass(frozen=True)
class Registry:
    """Those of a store. Every change is in the audit log."""

    database: Database
    audit: Audit
    clock: Callable[[], float] = time.time

    def list(self, group: str | None = None, tags: Mapping[str, str] | None = None) -> list[RegisteredDevice]:
        """By name; those of a group (None: any) with all of `tags`."""
        statement = select(REGISTRY, DEVICES.c.last_received_s).outerjoin(
            DEVICES, DEVICES.c.device == REGISTRY.c.device
        )
        if group is not None:
            statement = statement.where(REGISTRY.c.group_name == group)
        with reading(self.database) as connection:
            found = [_device(row) for row in connection.execute(statement.order_by(REGISTRY.c.device))]
        return [device for device in found if device.has(group, tags or {})]

    def members(self, group: str | None, tags: Mapping[str, str]) -> set[str]:
        """The names of the devices in a group (None: any) with all of `tags`: what a filter keeps."""
        return {device.device for device in self.list(group, tags)}

    def get(self, name: str) -> RegisteredDevice:
        """DataError where there is none."""
        with reading(self.database) as connection:
            found = self.find(connection, name)
        if found is None:
            raise DataError(f"there is no device {name!r} in the registry", hint="edgeloop collect device list")
        return found

    def find(self, connection: Connection, name: str) -> RegisteredDevice | None:
        statement = select(REGISTRY, DEVICES.c.last_received_s).outerjoin(
            DEVICES, DEVICES.c.device == REGISTRY.c.device
        )
        row = connection.execute(statement.where(REGISTRY.c.device == name)).one_or_none()
        return None if row is None else _device(row)

    def owner_of(self, credential: str) -> RegisteredDevice | None:
        """The device whose credential (or renewed one) has this SHA-256. A renewed one that is used is the credential
        from then on, and the one before it ends."""
        r = REGISTRY.c
        statement = select(REGISTRY).where(or_(r.credential == credential, r.renewal == credential))
        with reading(self.database) as connection:
            row = connection.execute(statement).one_or_none()
        if row is None:
            return None
        found = _device(row)
        if found.renewal == credential and found.status == ENROLLED:
            with writing(self.database) as connection:
                connection.execute(
                    update(REGISTRY)
                    .where(r.device == found.device, r.renewal == credential)
                    .values(credential=credential, expires_s=r.renewal_expires_s, renewal=None, renewal_expires_s=None)
                )
        return found

    def tag(self, names: Collection[str], add: Mapping[str, str], remove: Collection[str], by: str) -> None:
        """Also for devices that report without having been enrolled. DataError for one that is not known at all."""
        for name in names:
            with writing(self.database) as connection:
                tags = {**self._known(connection, name).tags, **add}
                tags = {key: value for key, value in tags.items() if key not in remove}
                self._update(connection, name, tags=tags_text(tags))
                entry = self.audit.add_within(
                    connection, by, "device.tag", name, origin="command line", add=dict(add), remove=sorted(remove)
                )
            self.audit.on_entry(entry)

    def set_group(self, names: Collection[str], group: str, by: str) -> None:
        """ "" takes them out of any. As `tag`."""
        if group:
            check_name(group, "group")
        for name in names:
            with writing(self.database) as connection:
                self._known(connection, name)
                self._update(connection, name, group_name=group)
                entry = self.audit.add_within(connection, by, "device.group", name, origin="command line", group=group)
            self.audit.on_entry(entry)

    def revoke(self, names: Collection[str], by: str) -> None:
        """Their credentials end; their reports and names stay. DataError for one that is not enrolled."""
        for name in names:
            with writing(self.database) as connection:
                found = self.find(connection, name)
                if found is None or found.status == KNOWN:
                    raise DataError(f"{name!r} is not enrolled", hint="edgeloop collect device list")
                self._update(connection, name, status=REVOKED)
                entry = self.audit.add_within(connection, by, "device.revoke", name, origin="command line")
            self.audit.on_entry(entry)

    def remove(self, names: Collection[str], by: str) -> None:
        """Out of the registry: the name is free to be enrolled again. Its reports stay."""
        for name in names:
            with writing(self.database) as connection:
                if connection.execute(REGISTRY.delete().where(REGISTRY.c.device == name)).rowcount != 1:
                    raise DataError(f"there is no device {name!r} in the registry", hint="edgeloop collect device list")
                entry = self.audit.add_within(connection, by, "device.remove", name, origin="command line")
            self.audit.on_entry(entry)

    def put(self, connection: Connection, name: str, **values: Any) -> None:
        """Insert it, or change it; within a transaction."""
        if self.find(connection, name) is None:
            empty = {"group_name": "", "tags": "{}", "status": KNOWN, "kind": "", "proof": "", "token_id": ""}
            connection.execute(REGISTRY.insert(), {"device": name, "enrolled_from": "", **empty, **values})
        else:
            self._update(connection, name, **values)

    def _update(self, connection: Connection, name: str, **values: Any) -> None:
        connection.execute(update(REGISTRY).where(REGISTRY.c.device == name).values(**values))

    def _known(self, connection: Connection, name: str) -> RegisteredDevice:
        if self.find(connection, name) is None:
            if connection.execute(select(DEVICES.c.id).where(DEVICES.c.device == name)).first() is None:
                raise DataError(f"no device {name!r} is enrolled or has reported", hint="edgeloop collect device list")
            self.put(connection, name)
        found = self.find(connection, name)
        assert found is not None
        return found


def _device(row: Any) -> RegisteredDevice:
    values = dict(row._mapping)
    tags, group = tags_of(values.pop("tags")), values.pop("group_name")
    return RegisteredDevice(tags=tags, group=group, last_seen_s=values.pop("last_received_s", None), **values)
