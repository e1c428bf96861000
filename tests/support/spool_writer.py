"""A process to be killed: puts reports into a spool, and says each one that `put` returned from."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from edgeloop.telemetry.spool.spool import Spool
from support.reports import BOOT, small_body

if __name__ == "__main__":
    spool = Spool(Path(sys.argv[1]), max_bytes=int(sys.argv[3]))
    for seq in range(int(sys.argv[2]), 1_000_000):
        spool.put(small_body(seq), BOOT, seq)
        os.write(1, b"%d\n" % seq)
