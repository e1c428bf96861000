"""A device that only reports: python -m support.device_side LEDGER SPOOL URL DEVICE COUNT [REPORTS_PER_S]

The agent's own publisher, spool and transport in a process, without a model. Writes its ledger as `logged_agent` does;
makes COUNT reports, then goes on until all are delivered. A new start has a new boot.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace

from edgeloop.telemetry.delivery.outbox import Outbox
from edgeloop.telemetry.report import Report
from edgeloop.telemetry.simulation.devices import make_report
from edgeloop.telemetry.spool.spool import Spool
from edgeloop.telemetry.transports import open_transport
from edgeloop_agent.reports.publisher import Publisher


def main(ledger_path: str, spool: str, url: str, device: str, count: str, reports_per_s: str = "500") -> None:
    ledger = os.open(ledger_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    submit = Outbox.submit

    def logged(self: Outbox, report: Report) -> None:
        os.write(ledger, f"made {report.boot} {report.seq}\n".encode())
        submit(self, report)
        if not self._held:
            os.write(ledger, f"kept {report.boot} {report.seq}\n".encode())

    Outbox.submit = logged  # type: ignore[method-assign]
    transport = open_transport(url, device=device)
    publisher = Publisher(Spool(spool), transport, lambda line: print(line, file=sys.stderr, flush=True))
    boot = os.urandom(8).hex()
    began_s = time.monotonic()
    for seq in range(1, int(count) + 1):
        time.sleep(max(0.0, began_s + seq / float(reports_per_s) - time.monotonic()))
        uptime_s = time.monotonic() - began_s
        report = make_report(0, 1, seq, boot, time_s=time.time(), uptime_s=uptime_s, period_s=1 / float(reports_per_s))
        publisher.submit(replace(report, device=device))
    while publisher.totals()["waiting"]:
        time.sleep(0.05)
    publisher.close(5.0)
    print("all delivered", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
