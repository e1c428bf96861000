"""What travels to a device beside bundles, signed by the same keys: a version of its agent, or its config.

A package is a file like a bundle, manifest.json first, signatures.json over its exact bytes, then what it holds; its
members are stored, not packed, which tells the two apart. Nothing here imports numpy.

    agent:  tree.zip     the agent as it lies on a device, bin/edgeloop-agent and site/
    config: agent.toml
"""

from __future__ import annotations

import hashlib
import stat
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.bundle.allowances import Exemption, SignedAllowance, decode_allowances, judge_allowances
from edgeloop.bundle.archive import SNIFFED_BYTES, STORED, Archive, is_stored_manifest
from edgeloop.bundle.checked import (
    as_integer,
    as_table,
    canonical_json,
    integer_at,
    list_at,
    name_at,
    parse_canonical_json,
    table_at,
    text_at,
)
from edgeloop.bundle.files import write_atomically
from edgeloop.bundle.limits import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    MAX_SIGNATURES_BYTES,
    MAX_VERSION,
    SHA256_PATTERN,
    SIGNATURES,
)
from edgeloop.bundle.manifest import FileEntry
from edgeloop.bundle.reader import open_signed_file
from edgeloop.bundle.signatures import VALID, SignatureEntry, decode_signatures, encode_signatures, judge, sign_manifest
from edgeloop.bundle.trust import TrustStore
from edgeloop.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from edgeloop.bundle.keys import SigningKey

FORMAT = "edgeloop-package"
AGENT, CONFIG = "agent", "config"
MEMBERS: Mapping[str, tuple[str, int]] = {AGENT: ("tree.zip", 512 << 20), CONFIG: ("agent.toml", 1 << 20)}
"""kind -> (what it holds, at most so many bytes)"""


@dataclass(frozen=True)
class PackageManifest:
    """Of which kind, name and version, and what the member must be.

    Of an agent: machine, python and glibc that it was made for ((0, 0): any), agent: its own version as text;
    unpacked_bytes: of the tree.
    """

    kind: str
    name: str
    version: int
    member: FileEntry
    machine: str = ""
    python: tuple[int, int] = (0, 0)
    glibc: tuple[int, int] = (0, 0)
    agent: str = ""
    unpacked_bytes: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        said = {
            "format": FORMAT, "schema": 1, "kind": self.kind, "name": self.name, "version": self.version,
            "member": {"sha256": self.member.sha256, "bytes": self.member.bytes}, "machine": self.machine,
            "python": list(self.python), "glibc": list(self.glibc), "agent": self.agent,
            "unpacked_bytes": self.unpacked_bytes, "provenance": dict(self.provenance),
        }  # fmt: skip
        return canonical_json(said)


def decode_package_manifest(raw: bytes) -> PackageManifest:
    """The inverse, everything checked. Raises RefusedError."""
    data = parse_canonical_json(raw, MANIFEST)
    if data.get("format") != FORMAT:
        raise RefusedError("manifest.json is not that of a package")
    if data.get("schema") != 1:
        raise RefusedError("it was made by a newer edgeloop", hint="update the agent first")
    kind = text_at(data, "kind", 32)
    if kind not in MEMBERS:
        raise RefusedError(f"a package of the kind {kind!r}: it was made by a newer edgeloop")
    entry = as_table(data.get("member"), "'member'")
    sha256 = text_at(entry, "sha256", 64)
    if not SHA256_PATTERN.fullmatch(sha256):
        raise RefusedError("manifest.json: 'sha256' is none")
    return PackageManifest(
        kind, name_at(data, "name"), integer_at(data, "version", 1, MAX_VERSION),
        FileEntry(sha256, integer_at(entry, "bytes", 0, MEMBERS[kind][1])), text_at(data, "machine", 32),
        _two(data, "python"), _two(data, "glibc"), text_at(data, "agent", 64),
        integer_at(data, "unpacked_bytes", 0, 4 << 30), table_at(data, "provenance"),
    )  # fmt: skip


def _two(data: Mapping[str, Any], key: str) -> tuple[int, int]:
    values = [as_integer(value, f"'{key}'", 0, 1000) for value in list_at(data, key, 2)]
    if len(values) != 2:
        raise RefusedError(f"manifest.json: '{key}' must be two numbers")
    return values[0], values[1]


def is_package(path: Path) -> bool:
    """By its first bytes, whether it is an agent or a config rather than a bundle; sound or not."""
    try:
        with path.open("rb") as file:
            if not stat.S_ISREG(path.stat().st_mode):
                return False
            return is_stored_manifest(file.read(SNIFFED_BYTES))
    except OSError:  # whoever opens it says why
        return False


class Package:
    """A package whose signature was verified; its member is verified while it is read."""

    def __init__(
        self, path: Path, archive: Archive, raw_manifest: bytes, manifest: PackageManifest, signed_by: str | None
    ):
        """For `Package.open`. signed_by: None for one that was let in without a trusted signature."""
        self.path, self.manifest, self.raw_manifest, self.signed_by = path, manifest, raw_manifest, signed_by
        self._archive = archive

    @staticmethod
    def open(path: Path | str, *, trust: TrustStore | None = None, allow_unsigned: bool = False) -> Package:
        """Raises RefusedError where no trusted key signed it or it is damaged, UsageError where there is no file."""
        path = Path(path)
        archive = open_signed_file(path, method=STORED, max_members=3)
        raw = archive.read(MANIFEST, MAX_MANIFEST_BYTES)
        try:
            manifest = decode_package_manifest(raw)
            signatures = decode_signatures(archive.read(SIGNATURES, MAX_SIGNATURES_BYTES))
        except RefusedError as error:
            raise RefusedError(f"{path.name}: {error.message}", hint=error.hint) from error
        verdict = judge(raw, signatures, TrustStore.default() if trust is None else trust)
        if verdict.state != VALID and not allow_unsigned:
            raise RefusedError(f"{path.name}: {verdict.problem}", hint=verdict.hint)
        member = MEMBERS[manifest.kind][0]
        if set(archive.members) != {MANIFEST, SIGNATURES, member}:
            raise RefusedError(f"{path.name}: it holds something else than {member}")
        signed_by = verdict.fingerprint if verdict.state == VALID else None
        return Package(path, archive, raw, manifest, signed_by)

    def chunks(self) -> Iterator[bytes]:
        """The member; what was read counts only when the end came without a RefusedError."""
        digest, size = hashlib.sha256(), 0
        for chunk in self._archive.chunks(MEMBERS[self.manifest.kind][0], self.manifest.member.bytes):
            digest.update(chunk)
            size += len(chunk)
            yield chunk
        if (digest.hexdigest(), size) != (self.manifest.member.sha256, self.manifest.member.bytes):
            raise RefusedError(f"{self.path.name}: {MEMBERS[self.manifest.kind][0]} is not what was signed")

    def read(self) -> bytes:
        """The whole member, verified. Raises RefusedError."""
        return b"".join(self.chunks())

    def raw_signatures(self) -> bytes:
        """Raises RefusedError."""
        return self._archive.read(SIGNATURES, MAX_SIGNATURES_BYTES)

    def exemption(self, device: str, *, trust: TrustStore | None = None) -> Exemption:
        """See `Bundle.exemption`."""
        keys = TrustStore.default() if trust is None else trust
        return judge_allowances(self.raw_manifest, decode_allowances(self.raw_signatures()), keys, device, time.time())


def write_package(path: Path, manifest: PackageManifest, content: bytes, key: SigningKey | None) -> None:
    """Signed with `key` (None: not at all). Same content and key, same bytes. Raises UsageError."""
    raw = manifest.encode()
    rewrite_package(path, raw, [] if key is None else [sign_manifest(raw, key)], (), content)


def rewrite_package(
    path: Path, raw_manifest: bytes, entries: Sequence[SignatureEntry], allowances: Sequence[SignedAllowance],
    content: bytes,
) -> None:  # fmt: skip
    """Under these signatures and exceptions. Raises UsageError."""
    import io

    from edgeloop.bundle.allowances import encode_allowances
    from edgeloop.bundle.npz import fixed_zip_info

    signatures = encode_signatures(entries, encode_allowances(allowances))
    member = MEMBERS[decode_package_manifest(raw_manifest).kind][0]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for name, data in {MANIFEST: raw_manifest, SIGNATURES: signatures, member: content}.items():
            file.writestr(fixed_zip_info(name), data)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def entry_of(content: bytes) -> FileEntry:
    return FileEntry(hashlib.sha256(content).hexdigest(), len(content))
