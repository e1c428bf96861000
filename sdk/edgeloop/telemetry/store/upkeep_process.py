"""The upkeep of a store in a process of its own, for when there is much of it: in the collector's own process it would
take the interpreter from the ingest.

It is killed when the work is over or the thread that began it ends, at any point: sums and watermark are written in one
transaction, so nothing is lost but the step in hand.
"""

from __future__ import annotations

import json
import subprocess
import sys

from edgeloop.runtime.child import child_command
from edgeloop.telemetry.store.dialects import Database, find_dialect
from edgeloop.telemetry.store.retention import Retention

_CODE = "from edgeloop.telemetry.store.upkeep_process import main; main()"


def start(database: Database, retention: Retention) -> subprocess.Popen[bytes]:
    """Begin it; what it is to do goes through a pipe, as a URL may hold a password. OSError."""
    url = database.writer.url.render_as_string(hide_password=False)
    work = {"url": url, "report_days": retention.report_days, "hourly_days": retention.hourly_days}
    process = subprocess.Popen(
        child_command(_CODE), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,  # a terminal's Ctrl-C reaches the collector alone
    )  # fmt: skip
    assert process.stdin is not None
    try:
        with process.stdin as pipe:
            pipe.write(json.dumps(work).encode())
    except BrokenPipeError:
        pass  # it ended at once, as whoever looks after it will see
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def main() -> None:
    """In the child: reads its work, and does it until it is killed."""
    from edgeloop.telemetry.store import BUSY_TIMEOUT_S
    from edgeloop.telemetry.store.upkeep import keep_up

    work = json.load(sys.stdin)
    database = find_dialect(work["url"]).connect(work["url"], create=False, busy_timeout_s=BUSY_TIMEOUT_S)
    keep_up(database, Retention(work["report_days"], work["hourly_days"]))
