"""Take in the devices' reports, store them, show them on a page."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgeloop.cli._collect_admin import add_subverbs, run_subverb
from edgeloop.cli._console import Console
from edgeloop.cli._words import counted
from edgeloop.telemetry.store import DEFAULT_STORE_URL

if TYPE_CHECKING:
    from edgeloop.telemetry.collector import CollectorHandle

EPILOG = """example:
  edgeloop collect
  edgeloop collect --listen 127.0.0.1:8080 --store sqlite:///telemetry.db
  edgeloop collect --serial /dev/ttyUSB0 --serial /dev/ttyACM0?baud=57600
  edgeloop collect init --host collector.local
  edgeloop collect token create --uses 20 --expires 7d --group lab

Devices send to the printed address (edgeloop-agent run --telemetry URL); a browser shows the page there, Prometheus
scrapes URL/metrics. Ctrl-C or SIGTERM stops it; nothing that was acknowledged is lost, not even by kill -9."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default="127.0.0.1:8080",
        help="default 127.0.0.1:8080; port 0 takes a free one",
    )
    parser.add_argument(
        "--store",
        metavar="URL",
        default=DEFAULT_STORE_URL,
        help="default sqlite:///telemetry.db, in this folder",
    )
    parser.add_argument(
        "--serial",
        metavar="PORT",
        action="append",
        default=[],
        help="listen on a serial port too (repeatable); ?baud= sets its speed",
    )
    parser.add_argument(
        "--open",
        action="store_true",
        help="allow an address that others can reach: there is no login and no encryption yet",
    )

    add_subverbs(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    if args.matter is not None:
        return run_subverb(args, console)
    from edgeloop.telemetry.collector import run_collector

    def on_ready(handle: CollectorHandle) -> None:
        if args.open:
            console.note("--open: whoever reaches this address can read the telemetry and send reports, unencrypted")
        data = {"url": handle.url, "store": args.store, "serial": args.serial, "open": args.open}
        lines = [
            f"collector  {handle.url}",
            f"store      {args.store}",
            *(f"serial     {port}" for port in args.serial),
        ]
        console.result(data, "\n".join(lines))

    handle = run_collector(
        args.store, args.listen, args.serial, open_to_all=args.open, say=console.note, on_ready=on_ready
    )
    counts, _models, _latency = handle.ingest.metrics.snapshot()
    stored, again = counts.get("reports_stored", 0), counts.get("reports_duplicate", 0)
    rejected = counts.get("reports_rejected", 0)
    console.note(f"stopped; {counted(stored, 'report')} stored, {again} sent again, {rejected} rejected")
    return 0
