"""The first CIFAR-10 JPEGs of every class, out of the archives of real data."""

from __future__ import annotations

import tarfile
from pathlib import Path

CLASSES = 10


def extract(archive: Path, folder: Path, per_class: int) -> Path:
    """Class folders of `per_class` pictures each in `folder`; the folder of the class folders."""
    taken: dict[str, int] = {}
    with tarfile.open(archive) as stored:
        for member in stored:
            name = Path(member.name).parent.name
            if not member.isfile() or not member.name.endswith(".jpg") or taken.get(name, 0) == per_class:
                continue
            taken[name] = taken.get(name, 0) + 1
            stored.extract(member, folder, filter="data")
            if len(taken) == CLASSES and min(taken.values()) == per_class:
                break
    return folder / archive.name.partition(".")[0]
