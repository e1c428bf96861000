"""A store in a file: clear words when it is not to be had, and other files left alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, text

from edgeloop.errors import DataError, UsageError
from edgeloop.telemetry.store import StoreUnavailableError, open_store
from edgeloop.telemetry.store.database import Store
from support.collecting import make_report


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "telemetry.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{path}", busy_timeout_s=0.05)
    yield opened
    opened.close()


def test_a_locked_store_stores_nothing_and_works_again_later(store: Store, path: Path) -> None:
    store.insert([make_report(1)])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="locked"):
        store.insert([make_report(2)])
    assert store.counts().reports == 1, "reading goes on"
    other.execute("ROLLBACK")
    other.close()
    assert store.insert([make_report(2)]).stored == 1


def test_a_full_disk_stores_nothing_of_the_batch(store: Store) -> None:
    """SQLite's own limit on pages gives the very error of a full disk."""
    store.insert([make_report(1)])
    with store.database.writer.connect() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
    listener = lambda dbapi, *_: dbapi.execute(f"PRAGMA max_page_count = {pages + 2}")  # noqa: E731
    event.listen(store.database.writer, "checkout", listener)
    with pytest.raises(StoreUnavailableError, match="full"):
        store.insert([make_report(n) for n in range(2, 200)])
    assert store.counts().reports == 1
    event.remove(store.database.writer, "checkout", listener)
    event.listen(store.database.writer, "checkout", lambda dbapi, *_: dbapi.execute("PRAGMA max_page_count = 999999"))
    assert store.insert([make_report(n) for n in range(2, 200)]).stored == 198


def test_commits_are_durable_and_readers_do_not_block(store: Store) -> None:
    with store.database.writer.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2, "FULL"


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("telemetry.db", UsageError),
        ("sqlite://", UsageError),
        ("sqlite:///:memory:", UsageError),
        ("mysql://host/db", UsageError),
        ("sqlite:////nowhere/at/all/x.db", DataError),
        ("sqlite:////tmp", DataError),
    ],
)
def test_a_url_that_cannot_be_a_store_is_one_clear_line(url: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        open_store(url)
    assert "\n" not in str(caught.value)
    assert getattr(caught.value, "hint", None)


def test_readers_do_not_make_a_store(path: Path) -> None:
    with pytest.raises(DataError, match="no telemetry store"):
        open_store(f"sqlite:///{path}", create=False)
    assert not path.exists()


def test_other_files_are_left_alone(path: Path) -> None:
    path.write_bytes(b"this is a letter, not a database" * 100)
    with pytest.raises(DataError, match="not a telemetry store"):
        open_store(f"sqlite:///{path}")
    assert path.read_bytes().startswith(b"this is a letter")


def test_a_database_with_tables_of_these_names_is_left_alone(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE reports (mine TEXT)")
    other.close()
    with pytest.raises(DataError, match="not edgeloop's"):
        open_store(f"sqlite:///{path}")
