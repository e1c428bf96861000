"""Hard samples out of a collector, as a data folder that `edgeloop convert --data` takes."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgeloop.bundle.files import write_atomically
from edgeloop.errors import DataError, DeviceError, UsageError
from edgeloop.progress import Advance
from edgeloop.telemetry.samples.wire import SAMPLES_PATH

if TYPE_CHECKING:
    from edgeloop.telemetry.samples.keeping import KeptSample, SampleQuery

ARRAYS = "samples.npz"
ANSWERS_SUFFIX = "-answers.jsonl"
_MAX_MEMBER_BYTES = 512 << 20


class Samples(Protocol):
    """A collector's samples: those of a store, or over HTTP."""

    def find(self, query: SampleQuery) -> list[KeptSample]: ...

    def read(self, sample: KeptSample) -> bytes:
        """DataError where it is gone or damaged."""

    def delete(self, query: SampleQuery) -> int:
        """Wipe what is chosen; returns how many."""


class RemoteSamples:
    """Over HTTP; a collector with a login wants an operator's token (EDGELOOP_TOKEN)."""

    def __init__(self, url: str) -> None:
        from edgeloop.telemetry.reading.remote import CollectorClient

        self._client = CollectorClient(url)

    def find(self, query: SampleQuery) -> list[KeptSample]:
        from edgeloop.telemetry.samples.keeping import KeptSample

        try:
            found = json.loads(self._client.get(SAMPLES_PATH, asdict(query)))["samples"]
            names = [field.name for field in fields(KeptSample)]
            made = [KeptSample(**{name: row[name] for name in names}) for row in found]
            if not all(_is_plain(sample) for sample in made):
                raise ValueError
            return made
        except (ValueError, LookupError, TypeError) as error:
            raise self._nonsense() from error

    def read(self, sample: KeptSample) -> bytes:
        import hashlib

        data = self._client.get(f"{SAMPLES_PATH}/file", {"device": sample.device, "sha256": sample.sha256})
        if hashlib.sha256(data).hexdigest() != sample.sha256:
            raise DataError(f"sample {sample.sha256[:12]} of {sample.device} arrived damaged", hint="pull again")
        return data

    def delete(self, query: SampleQuery) -> int:
        try:
            return int(json.loads(self._client.get(SAMPLES_PATH, asdict(query), method="DELETE"))["deleted"])
        except (ValueError, LookupError, TypeError) as error:
            raise self._nonsense() from error

    def _nonsense(self) -> DeviceError:
        return DeviceError(f"{self._client.shown} did not answer as a collector does", hint="give its address only")


def _is_plain(sample: KeptSample) -> bool:
    """Its name becomes a file's."""
    return len(sample.sha256) == 64 and sample.sha256.isalnum() and sample.kind in ("png", "npz")


class StoredSamples:
    """Of a store on this machine; who looked at or deleted what is in its audit log, as it is over HTTP."""

    def __init__(self, url: str, who: str) -> None:
        from edgeloop.telemetry.collector.security.audit import Audit
        from edgeloop.telemetry.samples.keeping import SampleKeeper, samples_folder
        from edgeloop.telemetry.store import open_store

        store = open_store(url, create=False)
        self._keeper, self._audit, self._who = (
            SampleKeeper(store.database, samples_folder(url)),
            Audit(store.database),
            who,
        )

    def find(self, query: SampleQuery) -> list[KeptSample]:
        found = self._keeper.find(query)
        self._audit.add(self._who, "samples.list", count=len(found))
        return found

    def read(self, sample: KeptSample) -> bytes:
        self._audit.add(self._who, "samples.read", sample.device, sha256=sample.sha256)
        return self._keeper.read(sample)

    def delete(self, query: SampleQuery) -> int:
        gone = self._keeper.delete(query)
        self._audit.add(self._who, "samples.delete", query.device or "", count=gone)
        return gone


def open_samples(url: str, who: str = "unknown") -> Samples:
    """Of the collector at an `http(s)://` address, or of the store that is one. who: for the store's audit log."""
    if url.startswith(("http://", "https://")):
        return RemoteSamples(url)
    return StoredSamples(url, who)


def pull(samples: Samples, query: SampleQuery, folder: Path, advance: Advance = lambda _count: None) -> dict[str, Any]:
    """Copy what is chosen: pictures as `SHA256.png`, arrays together as `samples.npz`, and beside the folder
    `FOLDER-answers.jsonl`, what the models said. Pulling again adds what is new.

    Returns {"data": what `--data` takes, "samples", "new", "answers"}. Raises DataError where there is nothing, or
    arrays and pictures at once; UsageError where the folder holds something else.
    """
    found = samples.find(query)
    if not found:
        raise DataError("no hard sample matches", hint="edgeloop telemetry samples list")
    kinds = sorted({sample.kind for sample in found})
    if len(kinds) > 1:
        bundles = ", ".join(sorted({sample.bundle for sample in found}))
        raise DataError("both pictures and arrays match, of several models", hint=f"one of them: --bundle ({bundles})")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}", hint="another -o DIR") from error
    if kinds == ["png"]:
        new, data = _pictures(samples, found, folder, advance), f"{folder}/"
    else:
        new, data = _arrays(samples, found, folder / ARRAYS, advance), str(folder / ARRAYS)
    answers = folder.with_name(folder.name + ANSWERS_SUFFIX)
    lines = [json.dumps({**sample.to_dict(), "file": sample.name}) for sample in found]
    write_atomically(answers, ("\n".join(lines) + "\n").encode())
    return {"data": data, "samples": len(found), "new": new, "answers": str(answers)}


def _pictures(samples: Samples, found: Sequence[KeptSample], folder: Path, advance: Advance) -> int:
    new = 0
    for sample in found:
        path = folder / sample.name
        if not path.exists():
            write_atomically(path, samples.read(sample))
            new += 1
        advance(1)
    return new


def _arrays(samples: Samples, found: Sequence[KeptSample], path: Path, advance: Advance) -> int:
    """All anew: an .npz has no end to add to."""
    import numpy as np

    parts: dict[str, list[Any]] = {}
    for sample in found:
        try:
            with np.load(io.BytesIO(samples.read(sample)), allow_pickle=False) as arrays:
                _check_small(arrays)
                for name in arrays.files:
                    parts.setdefault(name, []).append(arrays[name])
        except (ValueError, OSError, KeyError) as error:
            raise DataError(f"sample {sample.sha256[:12]} of {sample.device} cannot be read: {error}") from error
        advance(1)
    try:
        whole: dict[str, Any] = {name: np.concatenate(each) for name, each in parts.items()}
    except ValueError as error:
        raise DataError("arrays of several shapes match", hint="one model: --bundle, --version") from error
    out = io.BytesIO()
    np.savez(out, **whole)
    write_atomically(path, out.getvalue())
    return len(found)


def _check_small(arrays: Any) -> None:
    """A small file can say that it holds a large array."""
    if sum(info.file_size for info in arrays.zip.infolist()) > _MAX_MEMBER_BYTES:
        raise ValueError("it unpacks to more than a sample can be")
