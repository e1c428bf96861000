"""Whether a block device may be written over, and writing an image onto it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeloop.errors import DeviceError, RefusedError, UsageError

LARGEST_CARD_BYTES = 256 * 10**9
"""Cards are smaller, hard disks are larger: whoever means one of those names it twice."""
_PIECE_BYTES = 4 << 20


@dataclass(frozen=True)
class BlockDevice:
    """mounted: "PLACE" where it or a part of it is mounted or used as swap. is_partition: a part of a disk."""

    path: Path
    size_bytes: int
    is_partition: bool
    mounted: tuple[str, ...]
    is_system: bool
    is_removable: bool


def judge_target(device: BlockDevice, image_bytes: int, *, named_twice: bool) -> None:
    """Raises RefusedError for a disk that is in use or looks like somebody's data; RefusedError, too, where the image
    is larger. Nothing makes a mounted or a system's disk writable."""
    path = device.path
    if device.is_partition:
        raise RefusedError(f"{path} is a partition, an image goes onto a whole disk", hint="name the disk, as /dev/sdb")
    if device.is_system:
        raise RefusedError(f"{path} holds this computer's own system")
    if device.mounted:
        raise RefusedError(f"{path} is mounted at {', '.join(device.mounted)}", hint=f"umount {path}*")
    if device.size_bytes == 0:
        raise RefusedError(f"{path} is empty: there is no card in it")
    if device.size_bytes < image_bytes:
        has, needs = device.size_bytes / 1e9, image_bytes / 1e9
        raise RefusedError(f"{path} has {has:.1f} GB, the image {needs:.1f} GB: a larger card is needed")
    is_suspicious = device.size_bytes > LARGEST_CARD_BYTES or not device.is_removable
    if is_suspicious and not named_twice:
        what = f"{device.size_bytes / 1e9:.0f} GB" if device.is_removable else "not removable"
        raise RefusedError(f"{path} is {what}, which no card is", hint=f"name it twice if it is meant: --yes {path}")


def look_at(path: Path, *, sysfs: Path = Path("/sys"), proc: Path = Path("/proc")) -> BlockDevice:
    """Raises UsageError for what is no block device."""
    try:
        status = path.stat()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    if not stat.S_ISBLK(status.st_mode):
        raise UsageError(f"{path} is no block device")
    return facts_of(path.resolve(), sysfs=sysfs, proc=proc)


def facts_of(path: Path, *, sysfs: Path, proc: Path) -> BlockDevice:
    """As sysfs and procfs have them; a device that sysfs does not know has no size."""
    folder = sysfs / "class/block" / path.name
    parts = {path.name}
    if folder.is_dir():
        parts |= {entry.name for entry in folder.iterdir() if (entry / "partition").exists()}
    places: list[str] = []
    for table in ("self/mounts", "swaps"):
        for line in _lines(proc / table):
            device, _, rest = line.partition(" ")
            if Path(device).name in parts:
                places.append(rest.split()[0] if table == "self/mounts" else "swap")
    system = {"/", "/boot", "/boot/firmware", "/boot/efi", "/usr"}
    return BlockDevice(
        path,
        size_bytes=int((_lines(folder / "size") or ["0"])[0]) * 512,
        is_partition=(folder / "partition").exists(),
        mounted=tuple(places),
        is_system=not system.isdisjoint(places),
        is_removable=(_lines(folder / "removable") or ["0"])[0] == "1" or path.name.startswith("mmcblk"),
    )


def write_image(image: Path, device: Path, advance: Callable[[int], None]) -> None:
    """Write all of it, flush, and read it back. Raises DeviceError."""
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)  # EXCL: not while somebody uses it
        try:
            _copy(image, descriptor, advance)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # read from the card, not from memory
            _compare(image, descriptor, advance)
        finally:
            os.close(descriptor)
    except OSError as error:
        gone = error.errno in (errno.ENXIO, errno.ENODEV, errno.EIO, errno.ENOMEDIUM)
        hint = "was the card taken out? write it again" if gone else None
        raise DeviceError(f"{device}: {error.strerror}", hint=hint) from error


def _copy(image: Path, descriptor: int, advance: Callable[[int], None]) -> None:
    with image.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            left = memoryview(piece)
            while left:
                left = left[os.write(descriptor, left) :]
            advance(len(piece))


def _compare(image: Path, descriptor: int, advance: Callable[[int], None]) -> None:
    at = 0
    with image.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            if os.pread(descriptor, len(piece), at) != piece:
                raise OSError(errno.EIO, f"byte {at} and following read back differently: the card is faulty")
            at += len(piece)
            advance(len(piece))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
