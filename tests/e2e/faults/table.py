"""The table of faults in docs/telemetry.md: runs the suite at full size and prints a row for each fault.

.venv/bin/python tests/e2e/faults/table.py                # all of it, about 15 minutes
.venv/bin/python tests/e2e/faults/table.py -k kill        # what pytest selects by that
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SDK = HERE.parents[1] / "sdk"
ELSEWHERE = (SDK / "telemetry" / "test_spool_cuts.py", SDK / "collector" / "test_decoding.py")


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        environment = {**os.environ, "EDGELOOP_FAULTS": "long", "EDGELOOP_FAULTS_TABLE": str(rows)}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--timeout",
            "1800",
            str(HERE),
            *map(str, ELSEWHERE),
            *arguments,
        ]
        status = subprocess.run(command, env=environment, stdout=sys.stderr, check=False).returncode
        lines = rows.read_text().splitlines() if rows.exists() else []
    found = {row["fault"]: row for row in map(json.loads, lines)}  # the last of a fault is the largest
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| fault | n | result |\n|---|---|---|")
    for row in found.values():
        print(f"| {row['fault']} | {row['n']} | {row['result']} |")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
