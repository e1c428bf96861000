"""A mark beside an unpacked bundle that says: these very files were verified. It spares a restart the unpacking and
hashing of everything, which takes seconds for a large model on a small board.

The signature over the manifest is checked at every start all the same, against the keys that are trusted then. What the
mark vouches for is that the unpacked files are still those that were compared with this manifest: the same inode, size
and times of every file and of the bundle. A change by anybody but root moves a file's ctime, which no program can set.
Nothing is vouched for where somebody else could write, nor after a week: then everything is read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeloop.bundle.files import write_atomically
from edgeloop.bundle.limits import MANIFEST, SIGNATURES
from edgeloop.bundle.reader import Bundle
from edgeloop.bundle.stage import StagedBundle, staged_name
from edgeloop.bundle.trust import TrustStore

VALID_FOR_S = 7 * 86400.0
_VERSION = 1
_PREFIX = ".verified-"
_MAX_MARK_BYTES = 1 << 20
_TICK_S = 0.02
"""Longer than the kernel's clock for files stands still: a change within one tick would not show."""

Identity = tuple[int, int, int, int, int]


def stage_verified(
    path: Path, directory: Path, *, trust: TrustStore | None = None, allow_unsigned: bool = False
) -> tuple[StagedBundle, str | None]:
    """As `Bundle.open(path).stage(directory)`, and who signed it (None: let in unsigned); nothing is read again where a
    mark holds. Raises like them. An unsigned bundle gets no mark.
    """
    bundle = Bundle.admit(path, trust=trust, allow_unsigned=allow_unsigned)
    folder = directory / staged_name(bundle.manifest, bundle.raw_manifest)
    mark = directory / f"{_PREFIX}{folder.name}.json"
    if bundle.signed_by is not None and _holds(mark, path, folder, bundle):
        os.utime(folder, ns=(time.time_ns(),) * 2)  # when it was last used: what was used longest ago goes first
        return StagedBundle(folder, bundle.manifest, was_there=True), bundle.signed_by
    bundle.verify()
    staged = bundle.stage(directory)
    if bundle.signed_by is not None:
        _write(mark, path, folder, bundle)
    return staged, bundle.signed_by


def _holds(mark: Path, path: Path, folder: Path, bundle: Bundle) -> bool:
    said = _read(mark)
    if said is None or not 0 <= time.time() - said["made_s"] <= VALID_FOR_S:
        return False
    seen = _seen(path, folder, bundle)
    return seen is not None and {**said, "made_s": 0} == {**seen, "made_s": 0}


def _seen(path: Path, folder: Path, bundle: Bundle) -> dict[str, Any] | None:
    """What a mark would say now; None where nothing can be vouched for."""
    wanted = {MANIFEST, SIGNATURES, *bundle.manifest.members()}
    try:
        folders = [folder.parent, folder, *(p for p in folder.rglob("*") if p.is_dir() and not p.is_symlink())]
        files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()}
        if set(files) != wanted or not all(_is_ours(p, stat.S_ISDIR) for p in folders):
            return None
        if not all(_is_ours(p, stat.S_ISREG) for p in files.values()):
            return None
        return {
            "verified": _VERSION,
            "key": bundle.signed_by,
            "manifest": hashlib.sha256(bundle.raw_manifest).hexdigest(),
            "bundle": list(_identity(path)),
            "files": {name: list(_identity(p)) for name, p in sorted(files.items())},
            "made_s": time.time(),
        }
    except OSError:
        return None


def _write(mark: Path, path: Path, folder: Path, bundle: Bundle) -> None:
    """After verification. What cannot be written is no loss: the next start verifies again."""
    seen = _seen(path, folder, bundle)
    if seen is None:
        return
    time.sleep(_TICK_S)
    if (again := _seen(path, folder, bundle)) is None or again["files"] != seen["files"]:
        return
    try:
        write_atomically(mark, json.dumps(seen).encode(), mode=0o600)
        for other in mark.parent.glob(f"{_PREFIX}*"):
            if not (mark.parent / other.name.removeprefix(_PREFIX).removesuffix(".json")).is_dir():
                other.unlink()
    except OSError:
        pass


def _read(mark: Path) -> Mapping[str, Any] | None:
    try:
        if not _is_ours(mark, stat.S_ISREG) or mark.stat().st_size > _MAX_MARK_BYTES:
            return None
        said = json.loads(mark.read_bytes())
        return said if isinstance(said, dict) and isinstance(said.get("made_s"), (int, float)) else None
    except (OSError, ValueError, RecursionError):
        return None


def _is_ours(path: Path, is_kind: Any) -> bool:
    """Of this kind, this user's, and writable by nobody else. Raises OSError."""
    status = path.lstat()
    return bool(is_kind(status.st_mode)) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _identity(path: Path) -> Identity:
    status = path.lstat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
