"""A file over the serial line that a device reports by: bytes of the file per second against the line's rate.

    .venv/bin/python tests/benchmarks/serial_transfer.py [--rounds 3] [--seconds 20]

A real agent and a real host at the ends of two ptys, between which a process lets bytes pass at 8N1's rate (115,200
baud: 11,520 bytes/s). From the first chunk to the acknowledgement of the last; offer and door are not in it. "backlog":
2,000 reports of 500 bytes wait on the device, and a collector, a process of its own, holds the line and takes them.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from secrets import token_hex

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._timing import host
from edgeloop.devices.commanding import Commander, connect_agent
from edgeloop.telemetry.commands.values import Plain
from edgeloop.telemetry.serial_link.chunks import COMPLETE, decode_arrived
from edgeloop.telemetry.serial_link.transfer import FileToSend
from edgeloop.telemetry.spool.spool import Spool
from edgeloop.telemetry.store import open_store
from edgeloop.telemetry.store.database import Store
from edgeloop.telemetry.wire.codec import encode_report
from support.agents import Agents, make_bundle
from support.reports import typical_report
from support.throttled import Cable

RATES = {"115,200 baud": 11_520, "1 Mbaud": 100_000}


COLLECTOR = """
import sys
from edgeloop.telemetry.collector import start_collector
store, port = sys.argv[1:]
with start_collector(store, serial_ports=[port]) as collector:
    print(collector.url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def through_collector(folder: Path, cable: Cable, rate: int) -> Iterator[tuple[Commander, Store]]:
    """As `edgeloop deploy NAME --collector URL` reaches the device."""
    store = f"sqlite:///{folder / 'telemetry.db'}"
    command = [sys.executable, "-c", COLLECTOR, store, f"{cable.host}?baud={rate * 10}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        opened = open_store(store)
        while not opened.latest():
            time.sleep(0.2)
        with connect_agent("pi-1", url) as agent:
            yield agent, opened
        opened.close()
        process.terminate()


def fill_spool(state: Path) -> None:
    """A backlog."""
    state.mkdir(parents=True)
    spool, boot = Spool(str(state / "spool.db")), os.urandom(8).hex()
    for seq in range(1, 2001):
        report = replace(typical_report(seq), device="pi-1", boot=boot, seq=seq)
        spool.put(encode_report(report), boot, seq)
    spool.end()


@contextmanager
def board(folder: Path, rate: int, interval_s: float) -> Iterator[Cable]:
    """An agent at the other end."""
    agents = Agents(folder)
    cable = Cable(folder, bytes_per_s=rate)
    bundle = make_bundle(folder / "digits.bundle")
    agent = agents.start(
        "--bundle", bundle, "--source", "synthetic:", "--rate", "50", "--device", "pi-1", "--report-interval",
        str(interval_s), "--telemetry", f"serial://{cable.device}?baud={rate * 10}",
    )  # fmt: skip
    try:
        agent.wait_until_said("runs on")
        yield cable
    finally:
        agents.close()
        cable.close()


def goodput(agent: Commander, size: int) -> float:
    """Bytes of a file per second."""
    data = os.urandom(size)
    arguments: dict[str, Plain] = {"offer": token_hex(8), "sha256": hashlib.sha256(data).hexdigest(), "bytes": size}
    taken = agent.ask("deploy", arguments)
    file = FileToSend(size, lambda offset, count: data[offset : offset + count])
    began_s = time.perf_counter()
    arrived = decode_arrived(bytes.fromhex(str(taken["arrived"])))
    done = agent.transfer(int(taken["transfer"]), file, arrived, lambda _count: None, 30.0)
    seconds = time.perf_counter() - began_s
    assert done.state == COMPLETE, done
    return size / seconds


def backlog(name: str, rate: int, rounds: int, seconds: float) -> None:
    found, taken = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            fill_spool(folder / "state")
            with board(folder, rate, 0.5) as cable, through_collector(folder, cable, rate) as (agent, store):
                before = store.counts().reports
                found.append(goodput(agent, int(rate * seconds)) / rate)
                taken.append(store.counts().reports - before)
    share, least = statistics.median(found), min(found)
    print(f"{name}, backlog: {share:.1%} of the line (min {least:.1%}, n = {len(found)}), reports meanwhile {taken}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("backlog", "direct"))
    parser.add_argument("--seconds", type=float, default=20.0, help="of the line for each transfer")
    args = parser.parse_args()
    print(host())
    for name, rate in RATES.items():
        if args.only != "direct":
            backlog(name, rate, args.rounds, args.seconds)
        if args.only == "backlog":
            continue
        for case, interval_s in (("no reports", 3600.0), ("reports every 0.5 s", 0.5)):
            found = []
            for _ in range(args.rounds):
                with (
                    tempfile.TemporaryDirectory() as folder,
                    board(Path(folder), rate, interval_s) as cable,
                    connect_agent(f"serial://{cable.host}?baud={rate * 10}") as agent,
                ):
                    found.append(goodput(agent, int(rate * args.seconds)) / rate)
            print(
                f"{name}, {case}: {statistics.median(found):.1%} of the line (min {min(found):.1%}, n = {len(found)})"
            )


if __name__ == "__main__":
    main()
