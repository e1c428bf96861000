"""The agent with everything on for half an hour: memory, descriptors and reports.

Bounds from the design: memory grows by less than 1 %, no descriptor more, no report missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from _timing import REPOSITORY, host

sys.path.insert(0, str(REPOSITORY / "tests"))

from support.soaking import soak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=20.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["EDGELOOP_HOME"] = f"{scratch}/home"
        done = soak(Path(scratch), seconds=60 * args.minutes, rate=args.rate)
    before, after = done.anonymous_mib
    pss_before, pss_after = done.pss_mib
    print(
        f"{args.minutes:g} minutes at {args.rate:g} frames/s: {done.frames} frames, {done.inferences} inferences, "
        f"{done.gated} gated, {done.unbalanced} in no sum, {done.restarts} restarts ({host()})\n"
        f"memory of its own {before:.2f} -> {after:.2f} MiB ({done.growth:+.2%}), PSS {pss_before:.1f} -> "
        f"{pss_after:.1f} MiB, descriptors {done.more_descriptors:+d} (n = {len(done.samples)} readings)\n"
        f"reports {done.reports}, missing {len(done.missing)}"
    )


if __name__ == "__main__":
    main()
