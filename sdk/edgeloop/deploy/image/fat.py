"""Files into a FAT file system inside an image, by mtools, without root."""

from __future__ import annotations

import posixpath
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgeloop.deploy.image.files import Entries, LinkEntry, check_names, folders_of
from edgeloop.deploy.image.partitions import Partition
from edgeloop.deploy.image.tools import run_tool
from edgeloop.errors import DeviceError, UsageError


@dataclass(frozen=True)
class Fat:
    """The file system of one partition of an image file."""

    image: Path
    partition: Partition

    def read(self, path: str) -> bytes | None:
        """A file's content, None where there is none."""
        done = run_tool("mtype", ["-i", self._place, f"::{path}"])
        return done.stdout if done.returncode == 0 else None

    def put(self, entries: Entries) -> None:
        """Write all of them, in place of what is there. Raises UsageError, DeviceError."""
        check_names(entries)
        for folder in folders_of(entries):
            if run_tool("mdir", ["-i", self._place, f"::{folder}"]).returncode != 0:
                self._must("mmd", f"::{folder}")
        with tempfile.TemporaryDirectory() as scratch:
            for path, entry in entries.items():
                if isinstance(entry, LinkEntry):
                    raise UsageError(f"{path}: FAT has no links")
                source = entry.content
                if isinstance(source, bytes):
                    source = Path(scratch) / posixpath.basename(path)
                    source.write_bytes(entry.content if isinstance(entry.content, bytes) else b"")
                self._must("mcopy", str(source), f"::{path}")

    def differing(self, entries: Entries) -> list[str]:
        """Paths that do not hold what was put there, by reading everything back."""
        wrong = []
        for path, entry in entries.items():
            if not isinstance(entry, LinkEntry):
                wanted = entry.content.read_bytes() if isinstance(entry.content, Path) else entry.content
                if self.read(path) != wanted:
                    wrong.append(path)
        return wrong

    @property
    def _place(self) -> str:
        return f"{self.image}@@{self.partition.start_bytes}"

    def _must(self, name: str, *arguments: str) -> None:
        over = ["-o"] if name == "mcopy" else []
        done = run_tool(name, ["-i", self._place, *over, *arguments])
        if done.returncode != 0 or done.stderr.strip():
            said = done.stderr.decode(errors="replace").strip().splitlines()
            reason = said[0] if said else f"{name} ended with {done.returncode}"
            hint = "the boot partition is full" if "full" in reason.lower() else None
            raise DeviceError(f"{self.image}: writing failed: {reason}", hint=hint)
