"""How long no results come when a delegate breaks: from the last of one worker to the first of the next.

Frames come every 10 or 20 ms, so a gap is as much longer than what the agent needs. The time until the watchdog notices
a hang is part of it: `--frame-timeout 1` in one case, what the agent does by itself in the last.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from _timing import host

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.agents import Agents
from support.delegate_cases import CASES, KNOWN_HANG, check_case, make_inputs
from support.delegate_lib import build_delegate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=10, help="times per case (default: %(default)s)")
    parser.add_argument("--only", default="", help="cases whose name has this text")
    args = parser.parse_args()
    count = args.n
    gaps: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["EDGELOOP_HOME"] = f"{scratch}/home"
        inputs = make_inputs(Path(scratch))
        for round_number in range(count):
            for case in (*(case for case in CASES if case.is_late), KNOWN_HANG):
                if args.only not in case.name:
                    continue
                folder = Path(scratch) / f"{case.name}-{round_number}"
                folder.mkdir()
                agents = Agents(folder)
                seen = check_case(case, agents.run, build_delegate(), inputs, folder)
                agents.close()
                gaps.setdefault(case.name, []).append(seen.gap_s or 0.0)
    for name, values in gaps.items():
        print(f"{name:32} median {statistics.median(values):.2f} s, longest {max(values):.2f} s, n = {count}")
    print(host())


if __name__ == "__main__":
    main()
