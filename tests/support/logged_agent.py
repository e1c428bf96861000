"""`edgeloop-agent` with a ledger: python -m support.logged_agent LEDGER INTERVAL_S run ...

Writes down each report that it makes, before the report goes anywhere, and again when it is kept. The interval may be
shorter than an agent takes it from its settings: hundreds of reports, and not hours of them.
"""

from __future__ import annotations

import os
import sys

from edgeloop.telemetry.delivery.outbox import Outbox
from edgeloop.telemetry.report import Report
from edgeloop_agent.reports.reporting import Reporting

if __name__ == "__main__":
    ledger = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    interval_s = float(sys.argv[2])
    submit, due_in_s = Outbox.submit, Reporting.due_in_s

    def logged(self: Outbox, report: Report) -> None:
        os.write(ledger, f"made {report.boot} {report.seq}\n".encode())
        submit(self, report)
        if not self._held:
            os.write(ledger, f"kept {report.boot} {report.seq}\n".encode())

    def sooner(self: Reporting, now_s: float) -> float:
        return due_in_s(self, now_s) - self._interval_s + interval_s

    Outbox.submit = logged  # type: ignore[method-assign]
    Reporting.due_in_s = sooner  # type: ignore[method-assign]
    from edgeloop_agent.cli import main

    sys.exit(main(sys.argv[3:]))
