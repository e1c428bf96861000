"""How long 100 MB of files take into a card's image: written, file system checked, read back and compared.

PYTHONPATH=tests python tests/benchmarks/flash.py [--mb 100] [--files 1463]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgeloop.deploy.image.files import FileEntry
from edgeloop.deploy.image.os_image import open_image
from support.disk_images import raspberry_pi_os


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=100)
    parser.add_argument("--files", type=int, default=1463, help="as many as an agent with OpenCV has")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        image = open_image(raspberry_pi_os(folder / "pi.img", root_mib=args.mb + 128))
        entries = _files(folder / "files", args.files, args.mb * 1_000_000 // args.files)
        print(f"{args.mb} MB in {args.files} files, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
        total = sum(
            _timed(what, work)
            for what, work in (
                ("write", lambda: image.root.put(entries)),
                ("fsck", image.root.check),
                ("read back and compare", lambda: _equal(image.root.differing(entries))),
            )
        )
        print(f"{'together':<24}{total:6.1f} s")


def _files(folder: Path, count: int, size: int) -> dict[str, FileEntry]:
    rng, entries = np.random.default_rng(0), {}
    for number in range(count):
        path = folder / f"{number // 100}" / f"{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.bytes(size))
        entries[f"/opt/edgeloop/agent/1/site/{number // 100}/{number}.py"] = FileEntry(path)
    return entries


def _timed(what: str, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    took = time.perf_counter() - began
    print(f"{what:<24}{took:6.1f} s")
    return took


def _equal(different: object) -> None:
    assert not list(different), "read back differently"  # type: ignore[call-overload]


if __name__ == "__main__":
    main()
