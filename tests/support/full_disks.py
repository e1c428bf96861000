"""A process on a small disk: python -m support.full_disks FOLDER collector|device ROUNDS

Others fill the disk while a device makes reports, then free it; prints how many reports there were and what came of
them. With "collector" the store is on that disk, with "device" the spool.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from edgeloop.telemetry.collector import start_collector
from edgeloop.telemetry.spool.memory import MemorySpool
from edgeloop.telemetry.spool.policy import ReportSpool
from edgeloop.telemetry.spool.spool import Spool
from edgeloop.telemetry.transports import open_transport
from support.faults import judge
from support.reporter import Reporter


def fill(path: Path) -> None:
    """Until not a byte is free."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            with suppress(OSError):
                while file.write(bytes(size)):
                    pass


def main(small: Path, side: str, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        large = Path(name)
        store = (small if side == "collector" else large) / "telemetry.db"
        spool: ReportSpool = Spool(small / "spool.db") if side == "device" else MemorySpool()
        said: list[str] = []
        with start_collector(f"sqlite:///{store}", say=said.append) as collector:
            device = Reporter(spool, open_transport(collector.url))
            full = 0
            for _ in range(rounds):
                device.make(100 // rounds + 5)
                device.deliver_all()
                fill(small / "others")
                for _ in range(40):
                    device.make(2)
                    full += not device.deliver()
                (small / "others").unlink()
                device.deliver_all()
            keys = [(each.report.boot, each.report.seq) for each in collector.store.reports()]
            verdict = judge(device.ledger, keys)
        spool.close()
    print(f"{verdict.kept} reports, {full} tries failed")
    refused = verdict.made - verdict.kept
    print(f"lost {verdict.lost}, stored twice {verdict.twice}, wrong {verdict.unmade}, refused loudly {refused}")
    verdict.check()
    assert full or side == "device", "the disk was never full"
    assert refused == spool.stats().refused
    assert len(said) <= 2 * rounds, said


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
