"""The file-system operations of an update, one by one, so that a test can cut the power at each of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from edgeloop.bundle.files import sync_directory


class Disk:
    """Every change that an update makes to a disk is one of these. All raise OSError.

    After `sync` of a folder its entries survive a power cut; before, any of the changes to them since the last `sync`
    may be lost. What `create` wrote is on the disk when it returns, under a name that may be lost.
    """

    def make_folder(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)

    def create(self, path: Path, pieces: Iterable[bytes]) -> None:
        with path.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())

    def symlink(self, target: str, path: Path) -> None:
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    def rename(self, source: Path, target: Path) -> None:
        source.replace(target)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def sync(self, folder: Path) -> None:
        sync_directory(folder)

    def flush(self) -> None:
        """What was written so far without `create` is on the disk when this returns."""
        os.sync()
