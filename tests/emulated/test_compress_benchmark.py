"""The benchmark of compression with training runs: few data, one goal. How good it is, the full run says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.debian_root import debian_root

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "compress.py"

# Seconds on a quiet machine, minutes beside other work.
pytestmark = [pytest.mark.emulated, pytest.mark.slow, pytest.mark.tensorflow, pytest.mark.timeout(1500)]


def test_keyword_spotting_gets_a_row_with_the_gain_that_was_asked_for(shared_data: Path, tmp_path: Path) -> None:
    tree = debian_root()  # skips where Debian's packages are not to be had
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 with plugins is missing: apt-get install qemu-user")
    environment = {**os.environ, "EDGELOOP_HOME": str(tree.path.parent / "meter")}
    command = [sys.executable, str(SCRIPT), "--quick", "--part", "kws", "--work", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    row = next(line for line in done.stdout.splitlines() if line.startswith("| second | 1.3x |"))
    gains = [float(cell) for cell in row.split("|")[3:5]]
    assert min(gains) >= 1.3
    assert (tmp_path / "kws-second-1.3.tflite").exists()
