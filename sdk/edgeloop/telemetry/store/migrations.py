"""How an older store becomes a current one. Each step runs in the transaction that records the new version."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import Connection, MetaData

Migration = Callable[[Connection, MetaData], None]
"""(connection in a write transaction, the current tables)."""


def _from_1_to_2(connection: Connection, metadata: MetaData) -> None:
    """Version 2 has tables that version 1 did not have."""
    metadata.create_all(connection, checkfirst=True)


MIGRATIONS: Mapping[int, Migration] = {
    1: _from_1_to_2,
}
"""From version: what turns it into version + 1."""
