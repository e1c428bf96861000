"""Unpack a verified bundle into a folder, because an interpreter maps a model from a file of its own."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.bundle.files import sync_directory
from edgeloop.bundle.limits import MANIFEST
from edgeloop.bundle.manifest import Manifest
from edgeloop.errors import DeviceError

if TYPE_CHECKING:
    from edgeloop.bundle.reader import Bundle

_TEMPORARY_PREFIX = ".staging-"
_CHUNK_BYTES = 256 << 10
KEPT_BUNDLES = 3
"""So many stay unpacked: those staged last, this one among them."""


@dataclass(frozen=True)
class StagedBundle:
    """A verified bundle as a folder: the members of the zip under their own names. `was_there`: unpacked before."""

    path: Path
    manifest: Manifest
    was_there: bool = False

    def model_path(self, variant_name: str | None = None) -> Path:
        """A variant's .tflite; without a name the first variant's. Raises ConfigError for an unknown name."""
        return self.path / self.manifest.variant(variant_name).file


def stage(bundle: Bundle, raw: Mapping[str, bytes], directory: Path) -> StagedBundle:
    """Unpack `bundle`, with the `raw` members that the manifest does not list, into a folder under `directory`.

    The folder's name holds name, version and the start of the manifest's hash, so another bundle never meets this
    one's files. It is filled beside, flushed and renamed. One that is there already is checked, and made again if
    anything in it differs. Of all under `directory` only the KEPT_BUNDLES that were staged last stay, and what a link
    there points to.
    """
    manifest = bundle.manifest
    final = directory / staged_name(manifest, raw[MANIFEST])
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory):
            was_there = _is_whole(final, bundle, raw)
            if not was_there:
                _fill(final, bundle, raw)
            os.utime(final, ns=(time.time_ns(),) * 2)  # when it was last staged; the kernel's own clock ticks in ms
            _prune(directory, keep=final)
    except OSError as error:
        is_full = error.errno == errno.ENOSPC
        reason = "no space left for it" if is_full else error.strerror
        needed = sum(variant.bytes for variant in manifest.variants)
        hint = (
            f"its models take {needed / 1e6:.1f} MB: make room there, or put the state elsewhere" if is_full else None
        )
        raise DeviceError(f"cannot unpack {bundle.path.name} into {directory}: {reason}", hint=hint) from error
    return StagedBundle(final, manifest, was_there)


def staged_name(manifest: Manifest, raw_manifest: bytes) -> str:
    """Of the folder that a bundle with this manifest is unpacked into."""
    return f"{manifest.name}-{manifest.version}-{hashlib.sha256(raw_manifest).hexdigest()[:12]}"


def _fill(final: Path, bundle: Bundle, raw: Mapping[str, bytes]) -> None:
    for leftover in final.parent.glob(f"{_TEMPORARY_PREFIX}*"):  # of a process that died; the lock is ours
        _remove(leftover)
    temporary = final.parent / f"{_TEMPORARY_PREFIX}{os.getpid()}"
    temporary.mkdir(mode=0o755)
    try:
        folders = {temporary}
        for name in (*raw, *bundle.manifest.members()):
            path = temporary / name
            path.parent.mkdir(exist_ok=True)
            folders.add(path.parent)
            with path.open("xb") as file:
                file.write(raw[name] if name in raw else bundle.read(name))
                file.flush()
                os.fsync(file.fileno())
        for folder in folders:
            sync_directory(folder)
        if final.exists() or final.is_symlink():
            _remove(final)
        temporary.rename(final)
        sync_directory(final.parent)
    finally:
        if temporary.exists():
            _remove(temporary)


def _prune(directory: Path, *, keep: Path) -> None:
    """Remove what was staged longest ago, never `keep`: the clock of a board without one starts in the past. What
    cannot be removed stays; anything else in the folder is left alone.
    """
    entries = list(directory.iterdir())
    linked = {entry.resolve() for entry in entries if entry.is_symlink()}
    staged = [e for e in entries if not e.is_symlink() and not e.name.startswith(".") and (e / MANIFEST).is_file()]
    staged.sort(key=lambda entry: (entry == keep, entry.stat().st_mtime_ns), reverse=True)
    for entry in staged[KEPT_BUNDLES:]:
        if entry.resolve() not in linked:
            shutil.rmtree(entry, ignore_errors=True)


def _is_whole(final: Path, bundle: Bundle, raw: Mapping[str, bytes]) -> bool:
    """Whether the folder holds exactly this bundle. A file too many makes it different, too."""
    if not final.is_dir() or final.is_symlink():
        return False
    wanted = {name: hashlib.sha256(content).hexdigest() for name, content in raw.items()}
    wanted |= {name: entry.sha256 for name, entry in bundle.manifest.members().items()}
    found = {str(p.relative_to(final)) for p in final.rglob("*") if p.is_symlink() or not p.is_dir()}
    return found == set(wanted) and all(_sha256(final / name) == digest for name, digest in wanted.items())


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
