"""kill -9 in the middle of updates against a running agent, while a reader reads what is to run over and over.

Each round updates to the next version and kills the update at a random moment (0.2 to 1.3 times what one takes), every
third round the agent, too. Counts states without a whole, verified model, and torn reads: both must be 0.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from _timing import host

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.kill_rounds import kill_rounds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=40, help="rounds (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["EDGELOOP_HOME"] = f"{scratch}/home"
        tally = kill_rounds(Path(scratch), args.n, args.seed)
    print(f"{host()}, {time.monotonic() - began:.0f} s, seed {args.seed}")
    for name, count in vars(tally).items():
        print(f"{name:16}{count:>8}")
    return 1 if tally.without_model or tally.torn else 0


if __name__ == "__main__":
    sys.exit(main())
