"""Export stored reports, or simulate devices that send some."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from edgeloop.cli._console import Console
from edgeloop.cli._words import counted
from edgeloop.errors import UsageError
from edgeloop.telemetry.store import DEFAULT_STORE_URL

EPILOG = """example:
  edgeloop telemetry export --store sqlite:///telemetry.db --format csv -o reports.csv
  edgeloop telemetry export --format jsonl --device pi-1 --since 2h | jq .p95_ms
  edgeloop telemetry simulate --devices 50 --reports 20 --interval 0.3 --to http://127.0.0.1:8080"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="subverb", metavar="VERB", required=True)
    export = verbs.add_parser("export", help="stored reports as CSV or JSON lines", epilog=EPILOG,
                              formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    export.add_argument("--store", metavar="URL", default=DEFAULT_STORE_URL, help="default: %(default)s")
    export.add_argument("--format", choices=("csv", "jsonl"), default="csv", help="default: %(default)s")
    export.add_argument("-o", "--output", metavar="FILE", default="-", help="default: stdout")
    export.add_argument("--device", metavar="ID", help="only this device")
    export.add_argument("--bundle", metavar="NAME", help="only this bundle")
    export.add_argument("--since", metavar="TIME", help="2h, 7d, an ISO date or time; by the device's clock")
    simulate = verbs.add_parser("simulate", help="devices that are not there, reporting to a collector", epilog=EPILOG,
                                formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    simulate.add_argument("--to", metavar="URL", required=True, help="the collector, for example http://127.0.0.1:8080")
    simulate.add_argument("--devices", type=int, default=10, help="default: %(default)s")
    simulate.add_argument("--reports", type=int, default=20, help="per device; default: %(default)s")
    simulate.add_argument("--interval", type=float, metavar="SECONDS", default=1.0, help="default: %(default)s")
    simulate.add_argument("--batch", type=int, default=1, help="reports of a device per request; default: %(default)s")
    simulate.add_argument("--seed", type=int, default=0, help="same seed, same latencies; default: %(default)s")


def run(args: argparse.Namespace, console: Console) -> int:
    return {"export": _export, "simulate": _simulate}[args.subverb](args, console)


def _export(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.telemetry.export import export_reports, parse_since
    from edgeloop.telemetry.store import Selection, open_store

    path = None if args.output == "-" else Path(args.output)
    if console.json and path is None:
        raise UsageError("--json and the export would share stdout", hint="give the export a file: -o FILE")
    since_s = None if args.since is None else parse_since(args.since, time.time())
    store = open_store(args.store, create=False)
    try:
        selection = Selection(device=args.device, bundle=args.bundle, since_s=since_s)
        rows = export_reports(store, path, args.format, selection)
    finally:
        store.close()
    if path is not None:
        data = {"file": str(path), "format": args.format, "rows": rows}
        console.result(data, f"{counted(rows, 'report')} written to {path}")
    if not rows:
        console.note("no report matches")
    return 0


def _simulate(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.telemetry.simulate import Simulation, simulate

    plan = Simulation(args.devices, args.reports, args.interval, args.batch, seed=args.seed)
    with console.step("simulate", total=plan.devices * plan.reports) as advance:
        result = simulate(args.to, plan, advance)
    data = {
        "devices": plan.devices,
        "reports": plan.devices * plan.reports,
        "acknowledged": result.acknowledged,
        "rejected": result.rejected,
        "retries": result.retries,
        "seconds": round(result.seconds, 3),
    }
    sent = counted(plan.devices * plan.reports, "report")
    text = f"{result.acknowledged} of {sent} acknowledged in {result.seconds:.1f} s"
    console.result(data, text + (f", {counted(result.retries, 'request')} sent again" if result.retries else ""))
    return 0
