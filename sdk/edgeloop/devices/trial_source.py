"""The source of a trial that lies on this host: found and checked before a device is touched, copied there later."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgeloop.devices.connection import Device
from edgeloop.devices.install import put_file, put_tree
from edgeloop.errors import DataError
from edgeloop.pictures import pictures_below
from edgeloop.progress import Progress

_FILE_SOURCES = ("folder", "npz", "video", "wav")
_COPIED_FILES_MAX_BYTES = 4 << 30


@dataclass(frozen=True)
class HostSource:
    """names: the pictures of a folder that a run takes, in the agent's order; none for a file. query: its options."""

    scheme: str
    path: Path
    names: tuple[str, ...] = ()
    query: str = ""

    @property
    def bytes(self) -> int:
        files = [self.path / name for name in self.names] or [self.path]
        return sum(file.stat().st_size for file in files)


def find_source(source: str, count: int | None) -> HostSource | None:
    """What `source` (the agent's source URL) names on this host; None for a source that is no file or folder.

    count: of the pictures of a folder only so many are taken, the first in the agent's order. Raises DataError.
    """
    scheme, _, rest = source.partition(":")
    if scheme not in _FILE_SOURCES or not rest:  # whether it is a source at all is the agent's to say
        return None
    path, query, kind = Path(rest).expanduser(), "", "folder" if scheme == "folder" else "file"
    if "?" in rest and not path.exists():  # a name may hold a question mark
        place, _, query = rest.rpartition("?")
        path = Path(place).expanduser()
    if kind == "folder" and query:
        raise DataError(
            f"source {source}: a copy changes no more", hint="--source-on-device: it is one of the device's own"
        )
    if not path.exists():
        raise DataError(
            f"source {source}: no such {kind} on this host", hint="--source-on-device: it is one of the device's own"
        )
    if (kind == "folder") != path.is_dir():
        raise DataError(f"source {source}: not a {kind}")
    return HostSource(scheme, path, tuple(pictures_below(str(path))[:count]) if kind == "folder" else (), query)


def put_source(device: Device, source: HostSource, trial: PurePosixPath, progress: Progress) -> str:
    """Copy it below `trial`; the source URL there. Raises DataError, DeviceError."""
    size = source.bytes
    if size > _COPIED_FILES_MAX_BYTES:
        raise DataError(
            f"source {source.path} is {size / 1e9:.1f} GB, too much to copy",
            hint="--count N takes the first N pictures; or copy it to the device yourself, for --source-on-device",
        )
    what = f"{len(source.names)} pictures, " if source.names else ""
    progress.note(f"source {source.path} is on this host: {what}{size / 1e3:,.0f} kB copied to the device for this run")
    target = trial / "source" / source.path.resolve().name
    if source.names:
        put_tree(device, source.path, target, names=source.names, within=trial)
    else:
        put_file(device, source.path, target, within=trial)
    return f"{source.scheme}:{target}" + (f"?{source.query}" if source.query else "")
