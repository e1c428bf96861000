"""Reads and writes of the tables around the reports, with the store's errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy import Connection, update
from sqlalchemy import exc as sql_errors

from edgeloop.errors import DataError, UsageError
from edgeloop.telemetry.store import StoreUnavailableError
from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.schema import META
from edgeloop.telemetry.wire.values import MAX_NAME_CHARS

_MAX_TAGS = 32


@contextmanager
def reading(database: Database) -> Iterator[Connection]:
    """Raises StoreUnavailableError."""
    with _translated(database.url), database.reader.connect() as connection:
        yield connection


@contextmanager
def writing(database: Database) -> Iterator[Connection]:
    """One transaction. Raises StoreUnavailableError, DataError for what the database does not take."""
    with _translated(database.url), database.writer.begin() as connection:
        yield connection


@contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except (sql_errors.IntegrityError, sql_errors.DataError, sql_errors.InterfaceError) as error:
        raise DataError(f"cannot be stored: {error.orig}") from error
    except sql_errors.DBAPIError as error:
        raise StoreUnavailableError(f"the store {url} is not available: {error.orig}") from error


def check_writable(database: Database) -> None:
    """A write that changes nothing. Raises StoreUnavailableError."""
    with writing(database) as connection:
        connection.execute(update(META).values(schema_version=META.c.schema_version))


def check_name(text: str, what: str) -> str:
    """`text`, when it can be a name: 1 to 120 printable characters. UsageError else."""
    if not 1 <= len(text) <= MAX_NAME_CHARS or not text.isprintable() or text != text.strip():
        shown = "".join(c if c.isprintable() else "?" for c in text[:40])
        raise UsageError(f"{what} {shown!r}: 1 to {MAX_NAME_CHARS} printable characters, no spaces around them")
    return text


def parse_tags(pairs: list[str]) -> dict[str, str]:
    """`["site=berlin", "rack=4"]` as tags. UsageError for anything else."""
    tags = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"a tag is KEY=VALUE, not {pair!r}", hint="for example --tag site=berlin")
        tags[check_name(key, "tag")] = check_name(value, "tag value")
    if len(tags) > _MAX_TAGS:
        raise UsageError(f"{len(tags)} tags are too many", hint=f"{_MAX_TAGS} at most")
    return tags


def tags_text(tags: Mapping[str, str]) -> str:
    return json.dumps(dict(tags), sort_keys=True)


def tags_of(text: str) -> dict[str, str]:
    return {str(key): str(value) for key, value in json.loads(text).items()}
