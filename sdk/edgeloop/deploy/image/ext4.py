"""Files into an ext4 file system inside an image, by debugfs, without root.

debugfs exits with 0 after any number of errors: what it says on stderr is read, and e2fsck has the last word. It keeps
the host's owner and mode of what it writes, so both are set afterwards.
"""

from __future__ import annotations

import posixpath
import re
import stat
import tempfile
from pathlib import Path

from edgeloop.deploy.image.files import Entries, FileEntry, LinkEntry, check_names, folders_of
from edgeloop.deploy.image.partitions import Partition
from edgeloop.deploy.image.tools import run_tool
from edgeloop.errors import DataError, DeviceError

_BANNER = re.compile(r"debugfs \d")
_COMMAND_ECHO = re.compile(r"^debugfs: ")
_TYPE = re.compile(r"Type: (\w+(?: \w+)*)\s+Mode:\s+(\d+)")
_FAST_LINK = re.compile(r'Fast link dest: "(.*)"')
_MAX_LINKS = 10


class Ext4:
    """The file system of one partition of an image file. Nobody else may write to the image meanwhile."""

    def __init__(self, image: Path, partition: Partition) -> None:
        self.image, self.partition = image, partition
        self._resolved: dict[str, str | None] = {"/": "/"}

    def read(self, path: str) -> bytes | None:
        """A file's content, None where there is none. Links are followed."""
        real = self.resolve(path)
        if real is None:
            return None
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "copy"
            self._run([f'dump "{real}" "{copy}"'], may_fail=True)
            return copy.read_bytes() if copy.exists() else None

    def names(self, folder: str) -> list[str]:
        """Of what is in a folder; empty where there is none."""
        real = self.resolve(folder)
        if real is None:
            return []
        said, _ = self._run([f'ls -p "{real}"'], may_fail=True)
        fields = [line.split("/") for line in said.splitlines() if line.startswith("/")]
        return sorted(f[5] for f in fields if len(f) > 5 and f[5] not in ("", ".", "..") and f[1] != "0")

    def resolve(self, path: str, links: int = 0) -> str | None:
        """The path without links on its way; None where it leads nowhere."""
        path = posixpath.normpath(path)
        if path not in self._resolved:
            self._resolved[path] = self._look_up(path, links)
        return self._resolved[path]

    def _look_up(self, path: str, links: int) -> str | None:
        parent = self.resolve(posixpath.dirname(path), links)
        if parent is None or links > _MAX_LINKS:
            return None
        step = posixpath.join(parent, posixpath.basename(path))
        said, _ = self._run([f'stat "{step}"'], may_fail=True)
        kind = _TYPE.search(said)
        if kind is None or kind[1] != "symlink":
            return step if kind is not None else None
        target = _FAST_LINK.search(said)
        return None if target is None else self.resolve(posixpath.join(parent, target[1]), links + 1)

    def free_bytes(self) -> int:
        """Raises DataError where it is no ext4 that debugfs reads."""
        said, _ = self._run(["stats -h"])
        free, size = (re.search(rf"{name}:\s+(\d+)", said) for name in ("Free blocks", "Block size"))
        if free is None or size is None:
            raise DataError(f"{self.image}: the file system of partition {self.partition.number} cannot be read")
        return int(free[1]) * int(size[1])

    def put(self, entries: Entries) -> None:
        """Write all of them, in place of what is there. Raises UsageError for names, DeviceError when a write failed:
        the image is then spoilt."""
        check_names(entries)
        with tempfile.TemporaryDirectory() as scratch:
            commands: list[str] = []
            for folder in folders_of(entries):
                if self.resolve(folder) is None:
                    real = self._real(folder)
                    commands += [f'mkdir "{real}"', *_owned(real, stat.S_IFDIR | 0o755)]
            for number, (path, entry) in enumerate(entries.items()):
                real = self._real(path)
                commands.append(f'rm "{real}"')
                if isinstance(entry, LinkEntry):
                    commands.append(f'symlink "{real}" "{entry.target}"')
                    continue
                source = entry.content
                if isinstance(source, bytes):
                    source = Path(scratch) / str(number)
                    source.write_bytes(entry.content if isinstance(entry.content, bytes) else b"")
                commands += [f'write "{source}" "{real}"', *_owned(real, stat.S_IFREG | entry.mode)]
            try:
                self._run(commands)
            finally:
                self._resolved = {"/": "/"}

    def check(self) -> None:
        """Raises DeviceError where the file system is not whole."""
        place = f"{self.image}?offset={self.partition.start_bytes}"
        done = run_tool("e2fsck", ["-f", "-n", place])
        if done.returncode != 0:
            lines = done.stdout.decode(errors="replace").strip().splitlines()
            raise DeviceError(f"the file system is damaged after writing: {lines[-1] if lines else done.returncode}")

    def differing(self, entries: Entries) -> list[str]:
        """Paths that do not hold what was put there, by reading everything back."""
        wrong = []
        with tempfile.TemporaryDirectory() as scratch:
            commands, places = [], []
            for number, (path, entry) in enumerate(entries.items()):
                if isinstance(entry, FileEntry):
                    copy = Path(scratch) / str(number)
                    commands.append(f'dump "{self._real(path)}" "{copy}"')
                    places.append((path, entry, copy))
                elif self._link(path) != entry.target:
                    wrong.append(path)
            self._run(commands, may_fail=True)
            for path, entry, copy in places:
                wanted = entry.content.read_bytes() if isinstance(entry.content, Path) else entry.content
                if not copy.exists() or copy.read_bytes() != wanted:
                    wrong.append(path)
        return wrong

    def _link(self, path: str) -> str | None:
        said, _ = self._run([f'stat "{self._real(path)}"'], may_fail=True)
        found = _FAST_LINK.search(said)
        return found[1] if found else None

    def _real(self, path: str) -> str:
        """Folders may be links (/lib -> usr/lib), the last name is what is written."""
        folder, name = posixpath.split(path)
        return posixpath.join(self.resolve(folder) or folder, name)

    def _run(self, commands: list[str], *, may_fail: bool = False) -> tuple[str, str]:
        """(stdout, what went wrong). One process for all commands."""
        place = f"{self.image}?offset={self.partition.start_bytes}"
        given = "\n".join([*commands, ""]).encode()
        done = run_tool("debugfs", [*(["-w"] if not may_fail else []), "-f", "/dev/stdin", place], given=given)
        said = done.stderr.decode(errors="replace")
        wrong = [line for line in said.splitlines() if line.strip() and not _BANNER.match(line)]
        # `rm` of what was not there is asked for before every write.
        wrong = [line for line in wrong if not (line.startswith("rm: File not found") or _COMMAND_ECHO.match(line))]
        if wrong and not may_fail:
            reason = wrong[0].strip()
            hint = "the root partition is full: use a larger image" if "Could not allocate" in said else None
            raise DeviceError(f"{self.image}: writing failed: {reason}", hint=hint)
        return done.stdout.decode(errors="replace"), "\n".join(wrong)


def _owned(path: str, mode: int) -> list[str]:
    return [f'sif "{path}" uid 0', f'sif "{path}" gid 0', f'sif "{path}" mode 0{mode:o}']
