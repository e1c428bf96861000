"""Open a bundle: verify first, then use. What a caller gets was checked against the signed manifest in the moment it
is given.

Order: the zip's structure, manifest.json and signatures.json under hard size limits, the signature over the
manifest's exact bytes, the member list against the manifest, then every member's size and SHA-256. Nothing here
imports numpy.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.bundle.archive import LZMA, SNIFFED_BYTES, Archive, is_stored_manifest, open_archive
from edgeloop.bundle.filekind import HEAD_BYTES, file_kind, next_step
from edgeloop.bundle.limits import (
    GOLDEN,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    MAX_MEMBERS,
    MAX_SIGNATURES_BYTES,
    RECIPE,
    REPORT,
    SIGNATURES,
)
from edgeloop.bundle.manifest import FileEntry, Manifest
from edgeloop.bundle.manifest_reading import decode_manifest
from edgeloop.bundle.signatures import TAMPERED, UNKNOWN_KEY, UNSIGNED, VALID, Verdict, decode_signatures, judge
from edgeloop.bundle.trust import TrustStore
from edgeloop.errors import DeviceError, RefusedError, UsageError
from edgeloop.paths import missing_hint

if TYPE_CHECKING:
    from edgeloop.bundle.allowances import Exemption
    from edgeloop.bundle.golden import Golden
    from edgeloop.bundle.signatures import SignatureEntry
    from edgeloop.bundle.stage import StagedBundle

_KEEP_BYTES = 1 << 20
"""A verified member up to this size stays in memory; a larger one is unpacked and verified again when it is asked
for.
"""


@dataclass(frozen=True)
class Examination:
    """What a bundle file is, whether or not it is to be trusted."""

    manifest: Manifest
    verdict: Verdict
    signatures: tuple[SignatureEntry, ...]


class Bundle:
    """A verified bundle. `signed_by` is the fingerprint of the trusted key, None for an unsigned one that was let
    in.
    """

    def __init__(self, path: Path, archive: Archive, raw_manifest: bytes, manifest: Manifest, signed_by: str | None):
        """For `Bundle.open`."""
        self.path = path
        self.manifest = manifest
        self.signed_by = signed_by
        self._archive = archive
        self.raw_manifest = raw_manifest
        self._members = manifest.members()
        self._kept: dict[str, bytes] = {}

    @staticmethod
    def open(path: Path | str, *, trust: TrustStore | None = None, allow_unsigned: bool = False) -> Bundle:
        """Verify a bundle file and open it.

        trust: the accepted keys, default those of this machine. allow_unsigned: let in one without a signature, or
        with one by an unknown key (`signed_by` is None then); a damaged or altered bundle is refused all the same.
        Raises RefusedError, one line with the member or key at fault; UsageError where there is no such file.
        """
        bundle = Bundle.admit(path, trust=trust, allow_unsigned=allow_unsigned)
        bundle.verify()
        return bundle

    @staticmethod
    def admit(path: Path | str, *, trust: TrustStore | None = None, allow_unsigned: bool = False) -> Bundle:
        """The first half of `open`: structure, signature and manifest hold; the members still need `verify`."""
        path = Path(path)
        archive, raw_manifest, signatures = _load(path)
        verdict = judge(raw_manifest, signatures, TrustStore.default() if trust is None else trust)
        if verdict.state != VALID and not (allow_unsigned and verdict.state in (UNSIGNED, UNKNOWN_KEY)):
            raise RefusedError(f"{path.name}: {verdict.problem}", hint=verdict.hint)
        with _about(path):
            manifest = decode_manifest(raw_manifest)
        signed_by = verdict.fingerprint if verdict.state == VALID else None
        return Bundle(path, archive, raw_manifest, manifest, signed_by)

    def model(self, variant_name: str | None = None) -> bytes:
        """A variant's .tflite; without a name the first variant's. Raises ConfigError for an unknown name."""
        return self.read(self.manifest.variant(variant_name).file)

    def golden(self) -> Golden | None:
        """The golden samples, if the bundle has any. Imports numpy. Raises RefusedError."""
        from edgeloop.bundle.golden import decode_golden

        if self.manifest.golden is None:
            return None
        return decode_golden(self.manifest.golden, self.read(GOLDEN))

    def report(self) -> dict[str, Any]:
        """The conversion report. Raises RefusedError."""
        try:
            report = json.loads(self.read(REPORT)) if REPORT in self._members else {}
        except (ValueError, RecursionError) as error:
            raise RefusedError(f"{self.path.name}: {REPORT} is not valid JSON") from error
        return report if isinstance(report, dict) else {}

    def recipe(self) -> str:
        """The recipe as TOML text. Raises RefusedError."""
        try:
            return self.read(RECIPE).decode("utf-8") if RECIPE in self._members else ""
        except UnicodeDecodeError as error:
            raise RefusedError(f"{self.path.name}: {RECIPE} is not text") from error

    def read(self, member: str) -> bytes:
        """A member's content, verified. Raises RefusedError."""
        if member in self._kept:
            return self._kept[member]
        entry = self._entry(member)
        content = self._archive.read(member, entry.bytes)
        self._check(member, entry, len(content), hashlib.sha256(content).hexdigest())
        return content

    def raw_signatures(self) -> bytes:
        """signatures.json as it is in the file. Raises RefusedError."""
        return self._archive.read(SIGNATURES, MAX_SIGNATURES_BYTES)

    def exemption(self, device: str, *, trust: TrustStore | None = None) -> Exemption:
        """Whether a signed exception lets it follow a higher version, on this device and now. Raises RefusedError."""
        from edgeloop.bundle.allowances import decode_allowances, judge_allowances

        keys = TrustStore.default() if trust is None else trust
        return judge_allowances(self.raw_manifest, decode_allowances(self.raw_signatures()), keys, device, time.time())

    def stage(self, directory: Path | str) -> StagedBundle:
        """Unpack into a folder of its own under `directory`, which either appears whole or not at all. Doing it again
        is cheap.

        Raises RefusedError, DeviceError where it cannot be written.
        """
        from edgeloop.bundle.stage import stage

        raw = {MANIFEST: self.raw_manifest, SIGNATURES: self.raw_signatures()}
        return stage(self, raw, Path(directory))

    def verify(self) -> None:
        """Every member against the manifest. Raises RefusedError."""
        _check_members(self.path, self._archive, self.manifest)
        for name, entry in self._members.items():
            digest = hashlib.sha256()
            chunks: list[bytes] | None = [] if entry.bytes <= _KEEP_BYTES else None
            size = 0
            for chunk in self._archive.chunks(name, entry.bytes):
                digest.update(chunk)
                size += len(chunk)
                if chunks is not None:
                    chunks.append(chunk)
            self._check(name, entry, size, digest.hexdigest())
            if chunks is not None:
                self._kept[name] = b"".join(chunks)

    def _entry(self, member: str) -> FileEntry:
        entry = self._members.get(member)
        if entry is None:
            raise UsageError(f"{self.path.name} has no {member}")
        return entry

    def _check(self, member: str, entry: FileEntry, size: int, sha256: str) -> None:
        if size != entry.bytes or sha256 != entry.sha256:
            raise RefusedError(f"{self.path.name}: {member} is not what the manifest says: it was changed or damaged")


def inspect_bundle(path: Path | str, *, trust: TrustStore | None = None) -> tuple[Manifest, str]:
    """(manifest, state) of a bundle, trusted or not: "valid", "unsigned", "unknown key", "bad signature" or "tampered".

    Raises RefusedError only where it is no readable bundle at all.
    """
    examination = examine_bundle(path, trust=trust)
    return examination.manifest, examination.verdict.state


def examine_bundle(path: Path | str, *, trust: TrustStore | None = None) -> Examination:
    """As `inspect_bundle`, with who signed it and what is wrong."""
    path = Path(path)
    archive, raw_manifest, signatures = _load(path)
    verdict = judge(raw_manifest, signatures, TrustStore.default() if trust is None else trust)
    with _about(path):
        manifest = decode_manifest(raw_manifest)
    try:
        Bundle(path, archive, raw_manifest, manifest, None).verify()
    except RefusedError as error:
        verdict = Verdict(TAMPERED, verdict.fingerprint, error.message.removeprefix(f"{path.name}: "))
    return Examination(manifest, verdict, signatures)


def _load(path: Path) -> tuple[Archive, bytes, tuple[SignatureEntry, ...]]:
    """The checked zip, the manifest's bytes and the signatures; nothing of them is believed yet."""
    archive = open_signed_file(path)
    raw_manifest = archive.read(MANIFEST, MAX_MANIFEST_BYTES)
    with _about(path):
        return archive, raw_manifest, decode_signatures(archive.read(SIGNATURES, MAX_SIGNATURES_BYTES))


def open_signed_file(path: Path, *, method: int = LZMA, max_members: int = MAX_MEMBERS) -> Archive:
    """Check a bundle's (or package's) zip structure. The file stays open, so that a later replacement of it changes
    nothing here.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(f"cannot open bundle {path}: {error.strerror}", hint=missing_hint(path)) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise UsageError(f"{path} is not a bundle file")

    def read_at(offset: int, size: int) -> bytes:
        try:
            parts = []
            while size and (part := os.pread(descriptor, size, offset)):
                parts.append(part)
                size -= len(part)
                offset += len(part)
        except OSError as error:
            raise DeviceError(f"cannot read {path}: {error.strerror}") from error
        if size:
            raise RefusedError(f"{path.name}: the file is cut short")
        return b"".join(parts)

    head = os.pread(descriptor, HEAD_BYTES, 0)
    if method == LZMA and path.suffix != ".bundle" and is_stored_manifest(os.pread(descriptor, SNIFFED_BYTES, 0)):
        os.close(descriptor)
        raise UsageError(f"{path} is an agent or a config, not a bundle", hint="edgeloop bundle inspect FILE")
    kind = "" if path.suffix == ".bundle" else file_kind(path, head)
    if kind:
        os.close(descriptor)
        raise UsageError(f"{path} is {kind}, not a bundle", hint=next_step(kind))
    # The finalizer hangs on `read_at`, which the archive holds: the file is closed with its last user.
    weakref.finalize(read_at, os.close, descriptor)
    return open_archive(read_at, status.st_size, method=method, max_members=max_members, what=path.name)


def _check_members(path: Path, archive: Archive, manifest: Manifest) -> None:
    members = manifest.members()
    for name in archive.members:
        if name not in (MANIFEST, SIGNATURES, *members):
            raise RefusedError(f"{path.name}: {name} is not in the manifest")
    for name, entry in members.items():
        member = archive.members.get(name)
        if member is None:
            raise RefusedError(f"{path.name}: {name} is missing")
        if member.size != entry.bytes:
            raise RefusedError(f"{path.name}: {name} is not what the manifest says: it was changed or damaged")


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Errors inside name the file."""
    try:
        yield
    except RefusedError as error:
        raise RefusedError(f"{path.name}: {error.message}", hint=error.hint) from error
