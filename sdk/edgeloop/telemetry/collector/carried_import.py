"""The collector's end of carried reports: takes in what lies on a stick, answers there, and removes what is answered.

Commit, then the acknowledgement's file, then the removal: pulled at any moment, the same files are taken in again, and
the store knows their reports by their keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeloop.errors import DataError, DeviceError, RefusedError
from edgeloop.telemetry.collector.notices import printable
from edgeloop.telemetry.delivery.carried_files import ACK, BATCH, read_whole, write_whole
from edgeloop.telemetry.reading.remote import CollectorClient, CollectorFailedError
from edgeloop.telemetry.transports import NotAcknowledgedError
from edgeloop.telemetry.wire.codec import Ack, Batch, decode_ack, decode_batch, encode_ack, encode_batch

CARRIED_PATH, CONTENT_TYPE = "/v1/carried", "application/cbor"

Handle = Callable[[bytes], Ack]
"""Takes an encoded batch, answers after its commit: `Ingest.handle`, or `carried_to`."""


@dataclass(frozen=True)
class Imported:
    """What an import did. files: taken in and answered; failed: files that stay as they are, with the reason;
    unanswered: taken in, but the stick takes no answer, so they come again."""

    files: int = 0
    accepted: int = 0
    rejected: int = 0
    folders: int = 0
    failed: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()


@dataclass
class CarriedImport:
    """`run` takes in a folder once. `handle` as in `Handle`; keep: the batches stay on the stick."""

    handle: Handle
    keep: bool = False
    _counts: Counter[str] = field(default_factory=Counter, repr=False)
    _failed: list[str] = field(default_factory=list, repr=False)
    _unanswered: list[str] = field(default_factory=list, repr=False)

    def run(self, root: Path, on_file: Callable[[], None] = lambda: None) -> Imported:
        """DeviceError when the folder is not there, or the collector behind `handle` is away: what was answered until
        then is, and the rest stays on the stick."""
        self._counts.clear()
        self._failed.clear()
        self._unanswered.clear()
        for folder in _device_folders(root):
            taken = self._counts["files"]
            for path in _batches(folder):
                self._take_in(path)
                on_file()
            self._counts["folders"] += self._counts["files"] > taken
        return Imported(**self._counts, failed=tuple(self._failed), unanswered=tuple(self._unanswered))

    def _take_in(self, path: Path) -> None:
        shown = printable(f"{path.parent.name}/{path.name}")
        try:
            request_id, body = read_whole(path)
            ack = self._committed(body)
        except DataError as error:
            self._failed.append(f"{shown}: {error.message}")
            return
        except OSError as error:
            self._failed.append(f"{shown}: {error.strerror or error}")
            return
        if not ack.accepted and not ack.rejected:
            self._failed.append(f"{shown}: the collector failed on each of its reports")
            return
        self._counts["accepted"] += sum(last - first + 1 for _boot, first, last in ack.accepted)
        self._counts["rejected"] += len(ack.rejected)
        try:
            self.answer(path, request_id, ack)
            self._counts["files"] += 1
        except OSError as error:
            self._unanswered.append(f"{shown}: {error.strerror or error}")

    def answer(self, path: Path, request_id: int, ack: Ack) -> None:
        """Leave the acknowledgement of a batch's file on the stick. OSError."""
        write_whole(path.with_suffix(ACK), request_id, encode_ack(ack))
        if not self.keep:
            path.unlink(missing_ok=True)

    def _committed(self, body: bytes) -> Ack:
        """Reports alone: commands, answers and a time of sending that come days later, or twice, are none."""
        batch = decode_batch(body)
        try:
            return replace(self.handle(encode_batch(batch.reports)), commands=())
        except DataError:
            raise
        except Exception as error:
            if _is_away(error):
                raise
        return self._one_by_one(batch)

    def _one_by_one(self, batch: Batch) -> Ack:
        """The collector failed on the batch: one report of it must not hold up the others."""
        acks = []
        for report in batch.reports:
            try:
                acks.append(self.handle(encode_batch([report])))
            except Exception as error:
                if _is_away(error):
                    raise
        return Ack(
            tuple(span for ack in acks for span in ack.accepted), tuple(each for ack in acks for each in ack.rejected)
        )


def carried_to(url: str) -> Handle:
    """To a running collector, by an operator's token where it wants a login (`CollectorClient`). UsageError."""
    client = CollectorClient(url)

    def handle(body: bytes) -> Ack:
        return decode_ack(client.post(CARRIED_PATH, body, CONTENT_TYPE))

    return handle


def _is_away(error: Exception) -> bool:
    """Or does not let us in, rather than having failed on what it was given."""
    if isinstance(error, NotAcknowledgedError):
        return not error.blames_batch
    return isinstance(error, DeviceError | RefusedError) and not isinstance(error, CollectorFailedError)


def _device_folders(root: Path) -> Iterator[Path]:
    try:
        folders = sorted(root.iterdir())
    except OSError as error:
        raise DeviceError(
            f"{root} cannot be read: {error.strerror}",
            hint="is the stick mounted? give the folder that the devices write to",
        ) from error
    for folder in folders:
        if folder.is_dir() and not folder.is_symlink():
            yield folder


def _batches(folder: Path) -> Iterator[Path]:
    try:
        return iter(sorted(path for path in folder.iterdir() if path.suffix == BATCH))
    except OSError as error:
        raise DeviceError(f"{printable(str(folder))} cannot be read: {error.strerror}") from error
