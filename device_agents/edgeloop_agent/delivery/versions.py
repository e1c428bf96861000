"""Versions of one thing in a folder, with a link to what runs and a link to what it falls back to.

    FOLDER/versions/7-0123456789abcdef.bundle    whole, or not there
    FOLDER/current.bundle   -> versions/...      what runs: what a config names
    FOLDER/committed.bundle -> versions/...      what was well when it ran
    FOLDER/record.json                           trial, highest number, what failed; lags behind the links at most

A link is switched by one rename. The record is written before `current` leads to something new and after everything
else, and `update.at_start` brings the two together again: whenever the power fails, `current` leads to a whole version.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from errno import ENOENT
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from edgeloop_agent.delivery.disk import Disk
from edgeloop_agent.delivery.record import Record, decode_record, latest
from edgeloop_agent.delivery.update import (
    KEPT_VERSIONS,
    Begin,
    Follow,
    RollBack,
    Settle,
    Standing,
    Trial,
    Version,
    at_start,
    to_remove,
)

INSTALLED = "installed"
"""Of the state folder: what came in through the door."""
DIGEST_CHARS = 16
P = ParamSpec("P")
T = TypeVar("T")

_NEW, _LOCK = ".new-", ".lock"


def _alone(change: Callable[Concatenate[VersionFolder, P], T]) -> Callable[Concatenate[VersionFolder, P], T]:
    """A change that reads the record and writes it: `update` and the running agent take turns."""

    @functools.wraps(change)
    def locked(self: VersionFolder, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.alone():
            return change(self, *args, **kwargs)

    return locked


class VersionFolder:
    """For several processes, which take turns; for one thread. Every method raises OSError of the disk."""

    def __init__(
        self, folder: Path, *, suffix: str = ".bundle", disk: Disk | None = None, keep: int = KEPT_VERSIONS
    ) -> None:
        self.folder = folder
        self.current = folder / f"current{suffix}"
        self.committed = folder / f"committed{suffix}"
        self._suffix = suffix
        self._versions = folder / "versions"
        self._record_path = folder / "record.json"
        self._disk = disk or Disk()
        self._keep = keep
        self._depth, self._lock = 0, -1
        self._name = re.compile(rf"(\d{{1,16}})-([0-9a-f]{{{DIGEST_CHARS}}}){re.escape(suffix)}")

    def path_of(self, version: Version) -> Path:
        """Where this version's file is, or would be."""
        return self._versions / f"{version.number}-{version.digest}{self._suffix}"

    def settled_standing(self) -> Standing:
        """As it is between two changes of others: record and links belong together."""
        if not self.folder.is_dir():
            return self.standing()
        with self.alone():
            return self.standing()

    def standing(self) -> Standing:
        """As the disk has it now; amid a change of another process the links may be ahead of the record."""
        record = self._record()
        committed = self._led_to(self.committed)
        highest = max(record.highest, committed.number if committed is not None else 0)
        kept = sorted(self._kept())
        well = set(record.well) | ({committed.digest} if committed is not None else set())
        return Standing(self._led_to(self.current), committed, record.trial, highest, record.failed or {}, kept, well)

    def take_in(self, version: Version, pieces: Iterable[bytes]) -> Path:
        """Keep a version's file; nothing runs it yet. For one process at a time."""
        self._disk.make_folder(self._versions)
        self._tidy(self._versions)
        path = self.path_of(version)
        partial = path.with_name(_NEW + path.name)
        try:
            self._disk.create(partial, pieces)
        except OSError:
            self._disk.unlink(partial)
            raise
        self._disk.rename(partial, path)
        self._disk.sync(self._versions)
        self._disk.sync(self.folder)
        return path

    @_alone
    def begin_trial(self, version: Version) -> None:
        """From the next start on this version runs, to be committed or rolled back."""
        if not self.path_of(version).exists():  # made room for another, by a commit meanwhile
            raise FileNotFoundError(ENOENT, "the version is gone again", str(self.path_of(version)))
        record = self._record()
        failed = {digest: why for digest, why in (record.failed or {}).items() if digest != version.digest}
        self._write(replace(record, trial=Trial(version), failed=failed))
        self._lead(self.current, version)

    @_alone
    def count_start(self) -> None:
        """Of the agent, with what is on trial."""
        record = self._record()
        if record.trial is not None:
            self._write(replace(record, trial=replace(record.trial, starts=record.trial.starts + 1)))

    @_alone
    def commit(self) -> None:
        """What runs is what to fall back to from now on; older versions make room."""
        running = self._led_to(self.current)
        if running is None:
            return
        self._lead(self.committed, running)
        self.settle()
        self.prune()

    @_alone
    def go_back_to(self, version: Version) -> None:
        """By an operator's will: what runs and what to fall back to is this one. The highest number stays."""
        self._lead(self.committed, version)
        self._lead(self.current, version)
        self.settle()

    @_alone
    def end_trial(self) -> bool:
        """By an operator's will: what was committed runs again, nothing where nothing was; nothing is held against what
        was on trial. False where nothing is on trial."""
        trial, running = self._record().trial, self._led_to(self.current)
        if trial is None or trial.version != running:
            return False
        self._write(replace(self._record(), trial=None))
        self.follow()
        return True

    @_alone
    def leave(self) -> None:
        """By an operator's will: nothing of here runs, and nothing is fallen back to. What is kept stays."""
        self._write(replace(self._record(), trial=None))
        self._disk.unlink(self.committed)
        self._disk.sync(self.folder)
        self.follow()

    @_alone
    def settle(self) -> None:
        """Write down that no trial is going on."""
        standing = self.standing()
        now = standing.committed.digest if standing.committed is not None else ""
        failed = {digest: why for digest, why in standing.failed.items() if digest != now}
        self._write(Record(None, standing.highest, failed, _kept_of(standing)))

    @_alone
    def roll_back(self, reason: str) -> None:
        """What runs is refused from now on, for this reason, and what was committed last runs again."""
        standing = self.standing()
        failed = dict(standing.failed)
        if standing.running is not None and standing.running != standing.committed:
            failed[standing.running.digest] = reason
        # Written down first: after a power cut between the two it is neither lost nor tried again.
        self._write(Record(None, standing.highest, latest(failed), _kept_of(standing)))
        self.follow()

    @_alone
    def follow(self) -> None:
        """What was committed runs; nothing does where there is none."""
        committed = self._led_to(self.committed)
        if committed is not None:
            self._lead(self.current, committed)
        else:
            self._disk.unlink(self.current)
            self._disk.sync(self.folder)
        self.settle()
        self.prune()

    @_alone
    def recover(self) -> RollBack | None:
        """What an agent does before it runs anything, see `update.at_start`. The rollback, if it came to one."""
        match at_start(self.standing()):
            case Begin():
                self.count_start()
            case Settle():
                self.settle()
            case Follow():
                self.follow()
            case RollBack() as verdict:
                self.roll_back(verdict.reason)
                return verdict
        return None

    @_alone
    def refuse(self, version: Version, reason: str) -> None:
        """It never ran here, and is not to be tried again for that reason; "" keeps nothing of it."""
        record = self._record()
        if reason:
            self._write(replace(record, failed=latest({**(record.failed or {}), version.digest: reason})))
        if version.digest not in self.standing().well:  # an older one that was offered again stays to go back to
            self._disk.unlink(self.path_of(version))

    def prune(self) -> None:
        """Remove what is beyond the versions to keep, and links that were cut short. Of files in `versions` only
        `take_in` knows whether they are still being written."""
        for version in to_remove(self.standing(), self._keep):
            self._disk.unlink(self.path_of(version))
        self._tidy(self.folder)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """No other process changes anything meanwhile."""
        if self._depth == 0:
            self._disk.make_folder(self.folder)
            self._lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                os.close(self._lock)

    # -- inside

    def _tidy(self, folder: Path) -> None:
        for leftover in folder.glob(f"{_NEW}*") if folder.is_dir() else ():
            self._disk.unlink(leftover)

    def _lead(self, link: Path, version: Version) -> None:
        fresh = link.with_name(_NEW + link.name)
        self._disk.symlink(f"{self._versions.name}/{self.path_of(version).name}", fresh)
        self._disk.rename(fresh, link)
        self._disk.sync(self.folder)

    def _write(self, record: Record) -> None:
        self._disk.make_folder(self.folder)
        fresh = self._record_path.with_name(_NEW + self._record_path.name)
        self._disk.create(fresh, [record.encode()])
        self._disk.rename(fresh, self._record_path)
        self._disk.sync(self.folder)

    def _led_to(self, link: Path) -> Version | None:
        try:
            version = self._version(link.readlink().name)
        except OSError:
            return None
        return version if version is not None and self._is_whole(version) else None

    def _is_whole(self, version: Version) -> bool:
        return self.path_of(version).is_file()

    def _kept(self) -> list[Version]:
        names = [path.name for path in self._versions.iterdir()] if self._versions.is_dir() else []
        return [version for version in map(self._version, names) if version is not None]

    def _version(self, name: str) -> Version | None:
        found = self._name.fullmatch(name)
        return None if found is None else Version(int(found[1]), found[2])

    def _record(self) -> Record:
        """Empty where it cannot be read: the links say what runs, and what failed is tried once more."""
        try:
            return decode_record(self._record_path.read_bytes())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return Record()


def _kept_of(standing: Standing) -> tuple[str, ...]:
    """Digests of what ran well here and is still kept: of others nobody asks."""
    return tuple(version.digest for version in standing.kept if version.digest in standing.well)
