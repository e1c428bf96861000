"""A disk whose power fails at a chosen operation, and that then loses what was not synced."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from edgeloop_agent.delivery.disk import Disk


class PowerCutError(Exception):
    """The power is gone."""


class CuttableDisk(Disk):
    """Does everything for real. Operation number `cut_at` (from 0) is not begun. `lose` then undoes the last changes of
    names that no `sync` of their folder followed, as a journal does: the newest first."""

    def __init__(self, cut_at: int | None = None) -> None:
        self.count = 0
        self._cut_at = cut_at
        self._unsynced: list[tuple[Path, Callable[[], None]]] = []

    @property
    def unsynced(self) -> int:
        return len(self._unsynced)

    def lose(self, changes: int) -> None:
        for _ in range(changes):
            self._unsynced.pop()[1]()

    def make_folder(self, path: Path) -> None:
        self._tick()
        super().make_folder(path)

    def create(self, path: Path, pieces: Iterable[bytes]) -> None:
        self._tick()
        super().create(path, pieces)
        self._unsynced.append((path.parent, lambda: path.unlink(missing_ok=True)))

    def symlink(self, target: str, path: Path) -> None:
        self._tick()
        super().symlink(target, path)
        self._unsynced.append((path.parent, lambda: path.unlink(missing_ok=True)))

    def rename(self, source: Path, target: Path) -> None:
        self._tick()
        before = _copy_of(target)
        super().rename(source, target)

        def undo() -> None:
            target.replace(source)
            before(target)

        self._unsynced.append((source.parent, undo))

    def unlink(self, path: Path) -> None:
        self._tick()
        before = _copy_of(path)
        super().unlink(path)
        self._unsynced.append((path.parent, lambda: before(path)))

    def sync(self, folder: Path) -> None:
        self._tick()
        super().sync(folder)
        self._unsynced = [(where, undo) for where, undo in self._unsynced if where != folder]

    def flush(self) -> None:
        self._tick()

    def _tick(self) -> None:
        if self.count == self._cut_at:
            raise PowerCutError
        self.count += 1


def _copy_of(path: Path) -> Callable[[Path], None]:
    """What puts back what is at `path` now."""
    if path.is_symlink():
        target = path.readlink()
        return lambda where: where.symlink_to(target)
    if path.is_file():
        content = path.read_bytes()
        return lambda where: _write(where, content)
    if path.is_dir():
        raise AssertionError(f"{path}: a folder is replaced")
    return lambda _where: None


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
