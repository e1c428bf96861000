"""Reports as a table for spreadsheets, notebooks and data frames: CSV, JSON lines with everything, Parquet."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from edgeloop.bundle.files import EXPORT, check_may_replace
from edgeloop.errors import DataError, UsageError
from edgeloop.progress import Advance

if TYPE_CHECKING:
    from edgeloop.telemetry.store.rows import StoredReport

_PAGE_ROWS = 500


class Writer(Protocol):
    """One format. `close` completes the file, but leaves its stream open."""

    def write(self, stored: StoredReport) -> None: ...

    def close(self) -> None: ...


def _loader(module: str, name: str) -> Callable[[BinaryIO], Writer]:
    def load(out: BinaryIO) -> Writer:
        writer: Writer = getattr(importlib.import_module(f"{__name__}.{module}"), name)(out)
        return writer

    return load


FORMATS: Mapping[str, Callable[[BinaryIO], Writer]] = {
    "csv": _loader("text", "CsvWriter"),
    "jsonl": _loader("text", "JsonLinesWriter"),
    "parquet": _loader("parquet", "ParquetWriter"),
}
"""Format -> what writes it; what it imports loads on first use."""

_FILES_ONLY = ("parquet",)


def export_reports(
    reports: Iterable[StoredReport], path: Path | None, file_format: str, advance: Advance = lambda _count: None
) -> int:
    """Write reports as they come; returns how many. Memory does not grow with their number.

    path: None for stdout. A file appears whole or not at all. advance: hears of every page of rows.
    Raises UsageError for an unknown format, for a file there that is no export (the store itself, say) and for Parquet
    on stdout, DataError when the file cannot be written, MissingExtraError.
    """
    if file_format not in FORMATS:
        raise UsageError(f"unknown format {file_format!r}", hint=f"known: {', '.join(FORMATS)}")
    if path is None and file_format in _FILES_ONLY:
        raise UsageError(f"{file_format} is no text for stdout", hint="give the export a file: -o FILE")
    if path is not None:
        check_may_replace(path, EXPORT)
    with _output(path) as out:
        count = 0
        with closing(FORMATS[file_format](out)) as writer:
            for stored in reports:
                writer.write(stored)
                count += 1
                if not count % _PAGE_ROWS:
                    advance(_PAGE_ROWS)
        advance(count % _PAGE_ROWS)
    return count


@contextmanager
def _output(path: Path | None) -> Iterator[BinaryIO]:
    if path is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    part = path.with_name(f".{path.name}.part") if path.is_file() or not path.exists() else path
    try:
        with part.open("wb") as out:
            yield out
        if part != path:
            part.replace(path)
    except BaseException as error:
        if part != path:
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise DataError(f"cannot write {path}: {error.strerror or error}", hint="another -o FILE") from error
        raise
