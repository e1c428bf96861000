"""Interleaved runs of whole commands, medians and ratios."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


def host() -> str:
    """The machine as a line for the table."""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def shared_data() -> Path:
    """../shared/data, or an exit that says it is missing."""
    if not SHARED_DATA.is_dir():
        raise SystemExit("this benchmark needs ../shared/data (real models and images), which is not there")
    return SHARED_DATA


def unpack_cifar(folder: Path, part: str) -> Path:
    """`part` is "train" or "test"; the folder of class folders."""
    with tarfile.open(shared_data() / "cifar10" / f"{part}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / part


def plain_environment() -> dict[str, str]:
    """This one, in which Python keeps bytecode, as pip leaves it behind: else one side is compiled at every start."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def interleaved_seconds(
    commands: Mapping[str, Sequence[str]], *, runs: int, environment: Mapping[str, str] | None = None
) -> dict[str, list[float]]:
    """Wall seconds of each command, A B A B ..., after one run of each that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    whole = {**plain_environment(), **(environment or {})}
    for run in range(runs + 1):
        for name, command in commands.items():
            began = time.perf_counter()
            done = subprocess.run(list(command), capture_output=True, text=True, check=False, env=whole)
            took = time.perf_counter() - began
            if done.returncode != 0:
                raise SystemExit(f"{name} failed: {done.stderr.strip()[-500:]}")
            if run:
                seconds[name].append(took)
    return seconds


def print_ratio(title: str, ours: Sequence[float], theirs: Sequence[float], unit: str, factor: float = 1.0) -> None:
    """Median of both, and the median of the pairwise ratios ours / theirs."""
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    a, b = statistics.median(ours) * factor, statistics.median(theirs) * factor
    print(f"{title}: edgeloop {a:.3g} {unit}, other {b:.3g} {unit}, ratio {ratio:.2f} (n = {len(ours)}, {host()})")
