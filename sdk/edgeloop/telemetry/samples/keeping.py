"""The collector's side of hard samples: files in a folder, a table of what they are, a quota for each device."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.engine import make_url

from edgeloop.bundle.files import sync_directory
from edgeloop.errors import DataError
from edgeloop.paths import state_dir
from edgeloop.telemetry.collector.security.records import reading, writing
from edgeloop.telemetry.samples.wire import DUPLICATE, FULL, MORE, REFUSED, STORED, Answer, Piece
from edgeloop.telemetry.store import StoreUnavailableError
from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.tables.hard_samples import HARD_SAMPLES

FOLDER_VARIABLE = "EDGELOOP_SAMPLES"
"""Where the files are, in the place of the folder beside the store: for several collectors over one database."""

_DAY_S = 86400.0
_MAX_BEGUN = 8
_STARTS = {"png": b"\x89PNG\r\n\x1a\n", "npz": b"PK\x03\x04"}
_COLUMNS = tuple(column for column in HARD_SAMPLES.c if column.name != "id")


@dataclass(frozen=True)
class Quota:
    """What a device may send and have here. days: how long all are kept; None: until somebody deletes them."""

    per_day: int = 500
    total_bytes: int = 512 << 20
    days: float | None = None


@dataclass(frozen=True)
class KeptSample:
    """A row of HARD_SAMPLES."""

    device: str
    sha256: str
    bytes: int
    kind: str
    reason: str
    bundle: str
    version: int
    variant: str
    confidence: float | None
    answer: str
    time_s: float
    received_s: float

    @property
    def name(self) -> str:
        """Of its file, wherever it is copied to."""
        return f"{self.sha256}.{self.kind}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class SampleQuery:
    """Samples for which every field that is set holds; before_s: that arrived before that unix time."""

    device: str | None = None
    bundle: str | None = None
    version: int | None = None
    reason: str | None = None
    sha256: str | None = None
    before_s: float | None = None

    def conditions(self) -> list[Any]:
        equal = {name: value for name, value in asdict(self).items() if value is not None and name != "before_s"}
        met: list[Any] = [HARD_SAMPLES.c[name] == value for name, value in equal.items()]
        return met if self.before_s is None else [*met, HARD_SAMPLES.c.received_s < self.before_s]


_EVERYTHING = SampleQuery()


def samples_folder(store_url: str) -> Path:
    """Beside a store that is a file, else in the user's state folder; `EDGELOOP_SAMPLES` names another."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    parsed = make_url(store_url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        return Path(f"{parsed.database}-samples")
    return state_dir() / "samples"


@dataclass(frozen=True)
class SampleKeeper:
    """Safe between threads. Every file is whole and on the disk before its row is, and its row before the answer."""

    database: Database
    folder: Path
    quota: Quota = field(default_factory=Quota)
    clock: Callable[[], float] = time.time
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def take(self, piece: Piece, sender: str | None) -> Answer:
        """sender: the device that asks, where that is known. Raises StoreUnavailableError (table, or disk full)."""
        if sender is not None and piece.device != sender:
            return Answer(REFUSED, reason="is from another device")
        with self._lock:
            try:
                return self._take(piece)
            except OSError as error:
                raise StoreUnavailableError(f"samples in {self.folder}: {error.strerror or error}") from error

    def _take(self, piece: Piece) -> Answer:
        found = SampleQuery(device=piece.device, sha256=piece.sha256.hex())
        if self.find(found):
            return Answer(DUPLICATE)
        part = self._folder_of(piece.device) / f".{piece.sha256.hex()}.part"
        there = part.stat().st_size if part.exists() else 0
        if there == 0 and (reason := self._over_quota(piece)):
            return Answer(FULL, reason=reason)
        if piece.offset != there:
            return Answer(MORE, there)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # `mode` is of the last one only
        part.parent.mkdir(exist_ok=True, mode=0o700)
        self._make_room(part)
        with part.open("ab") as file:
            file.write(piece.data)
            file.flush()
            if not piece.is_last:
                return Answer(MORE, there + len(piece.data))
            os.fsync(file.fileno())
        return self._finish(piece, part)

    def _finish(self, piece: Piece, part: Path) -> Answer:
        about = piece.about
        data = part.read_bytes()
        is_right = hashlib.sha256(data).digest() == piece.sha256
        is_kind = data.startswith(_STARTS[about.kind])
        if not is_right or not is_kind:
            part.unlink()
            return Answer(REFUSED, reason=f"is no whole {about.kind}")
        kept = KeptSample(
            piece.device, piece.sha256.hex(), piece.size, about.kind, about.reason, about.bundle, about.version,
            about.variant, about.confidence, about.answer, about.time_s, self.clock(),
        )  # fmt: skip
        part.replace(self.path(kept))
        sync_directory(part.parent)
        with writing(self.database) as connection:
            connection.execute(self.database.insert_or_ignore(HARD_SAMPLES).on_conflict_do_nothing(), [asdict(kept)])
        return Answer(STORED)

    def _over_quota(self, piece: Piece) -> str:
        h = HARD_SAMPLES.c
        of_device = h.device == piece.device
        with reading(self.database) as connection:
            today = connection.execute(
                select(func.count()).where(of_device, h.received_s > self.clock() - _DAY_S)
            ).scalar_one()
            total = connection.execute(select(func.coalesce(func.sum(h.bytes), 0)).where(of_device)).scalar_one()
        if today >= self.quota.per_day:
            return f"{self.quota.per_day} samples a day are taken of a device"
        if total + piece.size > self.quota.total_bytes:
            return f"{self.quota.total_bytes >> 20} MiB are kept of a device"
        return ""

    def _make_room(self, part: Path) -> None:
        """What a device began and left: no more than a few, and none older than a day."""
        others = [path for path in part.parent.glob(".*.part") if path != part]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for number, path in enumerate(others):
            if number >= _MAX_BEGUN - 1 or path.stat().st_mtime < time.time() - _DAY_S:
                path.unlink(missing_ok=True)

    # -- what is there

    def find(self, query: SampleQuery = _EVERYTHING) -> list[KeptSample]:
        """In the order of arrival."""
        chosen = select(*_COLUMNS).where(*query.conditions()).order_by(HARD_SAMPLES.c.id)
        with reading(self.database) as connection:
            return [KeptSample(**row) for row in connection.execute(chosen).mappings()]

    def path(self, sample: KeptSample) -> Path:
        return self._folder_of(sample.device) / sample.name

    def read(self, sample: KeptSample) -> bytes:
        """DataError where the file is gone, or another one than was sent."""
        try:
            data = self.path(sample).read_bytes()
        except OSError as error:
            raise DataError(
                f"sample {sample.sha256[:12]} of {sample.device}: {error.strerror}",
                hint=f"several collectors over one database share a folder: {FOLDER_VARIABLE}",
            ) from error
        if hashlib.sha256(data).hexdigest() != sample.sha256:
            raise DataError(f"sample {sample.sha256[:12]} of {sample.device} is damaged on the disk")
        return data

    def delete(self, query: SampleQuery) -> int:
        """Files first, then rows; returns how many."""
        with self._lock:
            gone = self.find(query)
            for sample in gone:
                self.path(sample).unlink(missing_ok=True)
            with writing(self.database) as connection:
                connection.execute(delete(HARD_SAMPLES).where(*query.conditions()))
            for folder in {self._folder_of(sample.device) for sample in gone}:
                with contextlib.suppress(OSError):  # there are others in it
                    folder.rmdir()
        return len(gone)

    def _folder_of(self, device: str) -> Path:
        """Any name is one of a folder."""
        return self.folder / hashlib.sha256(device.encode()).hexdigest()[:24]
