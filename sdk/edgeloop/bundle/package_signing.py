"""Signatures and exceptions of a package that exists, as `packer` does it for bundles. Host only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.bundle.allowances import Allowance, decode_allowances, make_allowance, read_allowance
from edgeloop.bundle.package import Package, rewrite_package
from edgeloop.bundle.signatures import decode_signatures, sign_manifest
from edgeloop.bundle.trust import is_valid_signature

if TYPE_CHECKING:
    from edgeloop.bundle.keys import SigningKey


def sign_package(path: Path, key: SigningKey, output: Path | None = None) -> None:
    """Add a signature, in place or as `output`; valid ones of other keys, and exceptions, stay. Raises RefusedError for
    a damaged package, UsageError."""
    package = Package.open(path, allow_unsigned=True)
    raw, content, signatures = package.raw_manifest, package.read(), package.raw_signatures()
    others = [
        entry
        for entry in decode_signatures(signatures)
        if entry.public_key.raw != key.public_key.raw and is_valid_signature(entry.public_key.raw, entry.signature, raw)
    ]
    rewrite_package(output or path, raw, [sign_manifest(raw, key), *others], decode_allowances(signatures), content)


def allow_older_package(
    path: Path, key: SigningKey, devices: Sequence[str] = (), until_s: float | None = None, output: Path | None = None
) -> Allowance:
    """See `packer.allow_older`."""
    package = Package.open(path)
    signatures = package.raw_signatures()
    made = make_allowance(package.raw_manifest, key, devices, until_s)
    others = [a for a in decode_allowances(signatures) if a.entry.public_key.raw != key.public_key.raw]
    entries = decode_signatures(signatures)
    rewrite_package(output or path, package.raw_manifest, entries, [made, *others], package.read())
    return read_allowance(made.statement)
