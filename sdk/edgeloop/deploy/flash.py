"""`edgeloop flash` as a function: an operating system's image becomes a device's card.

Everything happens in a copy beside the result, which takes its name at the very end: an error leaves the original and
an older result as they were.
"""

from __future__ import annotations

import lzma
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeloop.deploy.block_device import judge_target, look_at, write_image
from edgeloop.deploy.card import CardPlan, Installation, build_installation
from edgeloop.deploy.image.files import Entries, FileEntry, folders_of
from edgeloop.deploy.image.first_boot import FirstBoot, first_boot_files
from edgeloop.deploy.image.os_image import OsFacts, OsImage, open_image, read_facts
from edgeloop.devices.connection import DevicePlatform
from edgeloop.errors import DataError, DeviceError, UsageError
from edgeloop.progress import Progress

_PIECE_BYTES = 4 << 20
_BLOCK_BYTES = 4096


@dataclass(frozen=True)
class FlashPlan:
    """out: a file, a block device, or None to change `image` itself. overwrite: a file that is there may go.
    named_twice: see `judge_target`."""

    image: Path
    out: Path | None
    card: CardPlan
    first_boot: FirstBoot
    named_twice: bool = False
    dry_run: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Flashed:
    """What was made. out: None after a dry run."""

    out: Path | None
    facts: OsFacts
    installation: Installation
    first_boot_paths: tuple[str, ...]


def flash(plan: FlashPlan, progress: Progress) -> Flashed:
    """Raises UsageError, DataError for what is no usable image, RefusedError for a device or bundle that is refused,
    DeviceError where writing fails."""
    is_packed = plan.image.suffix == ".xz"
    if is_packed and plan.out is None:
        raise UsageError(f"{plan.image.name} is compressed: the result needs a name", hint="-o OUT.img, or -o /dev/sdX")
    if not plan.image.is_file():
        raise UsageError(f"there is no image {plan.image}")
    if plan.out is not None:
        _check_out(plan.out, plan)
    onto = plan.out if plan.out is not None and plan.out.is_block_device() else None
    if onto is not None:
        judge_target(look_at(onto), plan.image.stat().st_size, named_twice=plan.named_twice)
    if not is_packed:
        read_facts(open_image(plan.image))  # before gigabytes are copied
    result = plan.image if plan.out is None else plan.out
    folder = Path(tempfile.gettempdir()) if onto is not None else result.absolute().parent
    with _WorkingCopy(plan.image, folder, progress) as copy:
        flashed = _install(plan, open_image(copy), progress)
        if plan.dry_run:
            return flashed
        if onto is not None:
            size = copy.stat().st_size
            judge_target(look_at(onto), size, named_twice=plan.named_twice)
            with progress.step(f"write {onto} and read it back", 2 * size) as advance:
                write_image(copy, onto, advance)
        else:
            _take_name(copy, result)
    return Flashed(result, flashed.facts, flashed.installation, flashed.first_boot_paths)


def _check_out(out: Path, plan: FlashPlan) -> None:
    """Raises UsageError for a place where no image can appear, before anything is copied."""
    if out.is_file() and not (plan.overwrite or out.samefile(plan.image)):
        raise UsageError(f"{out} is there already", hint="another name, or --force to write over it")
    if out.is_block_device() or out.is_file():
        return
    if out.exists():
        raise UsageError(f"{out} is neither a file nor a disk", hint="-o OUT.img, or -o /dev/sdX")
    if out.absolute().is_relative_to("/dev"):  # a file there would fill the memory
        raise UsageError(f"there is no disk {out}", hint="is the card in? lsblk shows the disks")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {out.absolute().parent} for {out.name}", hint="make it, or another name")


def _install(plan: FlashPlan, image: OsImage, progress: Progress) -> Flashed:
    facts = read_facts(image)
    platform = DevicePlatform(
        machine=facts.machine, python=facts.python, glibc=facts.glibc, hostname=facts.hostname, user="root",
        is_root=True, home="/root",
    )  # fmt: skip
    texts = [(image.boot.read(name) or b"").decode(errors="replace") for name in ("/config.txt", "/cmdline.txt")]
    first = first_boot_files(
        plan.first_boot, has_cloud_init=facts.has_cloud_init, config_txt=texts[0], cmdline_txt=texts[1]
    )
    with tempfile.TemporaryDirectory() as scratch:
        version = ".".join(map(str, facts.python))
        progress.note(f"collecting the agent for {facts.machine}, Python {version}: the first time it is fetched")
        with progress.step("collect the agent") as advance:
            installation = build_installation(plan.card, platform, Path(scratch), advance)
        files = {**installation.files, **first.root}
        needed, free = _on_disk_bytes(files), image.root.free_bytes()
        if needed > free:
            raise DataError(
                f"{plan.image}: the root partition has {free / 1e6:.0f} MB free, {needed / 1e6:.0f} MB are needed",
                hint="truncate -s +1G IMAGE, then growpart and resize2fs; or --slim for models that take no pictures",
            )
        paths = (*(f"boot:{path}" for path in first.boot), *first.root)
        if not plan.dry_run:
            with progress.step("write into the image", 3) as advance:
                image.root.put(files)
                image.boot.put(first.boot)
                advance(1)
                image.root.check()
                advance(1)
                wrong = [*image.root.differing(files), *image.boot.differing(first.boot)]
                advance(1)
            if wrong:
                raise DeviceError(f"{len(wrong)} files read back differently, {wrong[0]} among them")
        return Flashed(None, facts, installation, paths)


def _on_disk_bytes(entries: Entries) -> int:
    """Files take whole blocks, folders one."""
    blocks = sum(-(-entry.bytes // _BLOCK_BYTES) for entry in entries.values() if isinstance(entry, FileEntry))
    return (blocks + len(folders_of(entries))) * _BLOCK_BYTES


class _WorkingCopy:
    """A copy of an image in `folder`, unpacked; gone at the end unless it was renamed."""

    def __init__(self, image: Path, folder: Path, progress: Progress) -> None:
        self._image, self._progress = image, progress
        self._copy = folder / f".{image.name}.{os.getpid()}.partial"

    def __enter__(self) -> Path:
        try:
            size = self._image.stat().st_size
            is_packed = self._image.suffix == ".xz"
            label = "unpack the image" if is_packed else "copy the image"
            with self._progress.step(label, None if is_packed else size) as advance, self._copy.open("wb") as target:
                if is_packed:
                    _unpack(self._image, target.fileno(), advance)
                else:
                    _copy_sparse(self._image, target.fileno(), advance)
        except BaseException as error:
            self._copy.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise DeviceError(
                    f"{self._copy.parent}: {error.strerror or error}", hint="is the disk full?"
                ) from error
            raise
        return self._copy

    def __exit__(self, *_error: object) -> None:
        self._copy.unlink(missing_ok=True)


def _copy_sparse(image: Path, descriptor: int, advance: Callable[[int], None]) -> None:
    """Empty stretches stay holes: an image is mostly empty."""
    with image.open("rb") as file:
        at = 0
        while piece := file.read(_PIECE_BYTES):
            if piece.count(0) != len(piece):
                os.pwrite(descriptor, piece, at)
            at += len(piece)
            advance(len(piece))
    os.ftruncate(descriptor, at)


def _unpack(image: Path, descriptor: int, advance: Callable[[int], None]) -> None:
    try:
        with lzma.open(image) as file:
            at = 0
            while piece := file.read(_PIECE_BYTES):
                if piece.count(0) != len(piece):
                    os.pwrite(descriptor, piece, at)
                at += len(piece)
                advance(len(piece))
        os.ftruncate(descriptor, at)
    except (lzma.LZMAError, EOFError) as error:
        raise DataError(f"{image} is damaged: {error}", hint="download it again") from error


def _take_name(copy: Path, result: Path) -> None:
    try:
        with copy.open("rb") as file:
            os.fsync(file.fileno())
        if result.exists():
            shutil.copymode(result, copy)
        copy.replace(result)
    except OSError as error:
        raise DeviceError(f"{result}: {error.strerror}") from error
