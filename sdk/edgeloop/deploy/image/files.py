"""Files, folders and links to put into an image, as values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeloop.errors import UsageError

_CONTROL = re.compile(r"[\x00-\x1f\x7f\"]")


@dataclass(frozen=True)
class FileEntry:
    """A file of `content`, or a copy of the file `content` names. All belong to root."""

    content: bytes | Path
    mode: int = 0o644

    @property
    def bytes(self) -> int:
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)


@dataclass(frozen=True)
class LinkEntry:
    """A symbolic link."""

    target: str


Entries = Mapping[str, FileEntry | LinkEntry]
"""Path from the file system's root, as "/etc/hostname" -> what is put there. Missing folders are made."""


def check_names(entries: Entries) -> None:
    """Raises UsageError for a path that the tools' command languages cannot carry."""
    for path, entry in entries.items():
        texts = [path, entry.target] if isinstance(entry, LinkEntry) else [path]
        if isinstance(entry, FileEntry) and isinstance(entry.content, Path):
            texts.append(str(entry.content))
        if not path.startswith("/") or ".." in path.split("/") or any(map(_CONTROL.search, texts)):
            raise UsageError(f"{path!r} cannot be put into an image: quotes, control characters or no absolute path")


def folders_of(entries: Entries) -> list[str]:
    """Every folder that the entries lie in, outer ones first, without the root."""
    found: set[str] = set()
    for path in entries:
        parts = path.strip("/").split("/")[:-1]
        found |= {"/" + "/".join(parts[: i + 1]) for i in range(len(parts))}
    return sorted(found)
