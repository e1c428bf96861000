"""Export stored reports, take in those that a stick brought, or simulate devices that send some."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeloop.cli._carried import add_import, run_import
from edgeloop.cli._console import Console
from edgeloop.cli._report_filters import add_report_filters, asked
from edgeloop.cli._samples import add_samples_arguments, run_samples
from edgeloop.cli._words import counted
from edgeloop.errors import UsageError
from edgeloop.telemetry.store import DEFAULT_STORE_URL

EPILOG = """example:
  edgeloop telemetry export --store sqlite:///telemetry.db --format csv -o reports.csv
  edgeloop telemetry export --format jsonl --device pi-1 --since 2h | jq .p95_ms
  edgeloop telemetry export --store https://host:8443?ca=ca.pem --format parquet --group line-2 -o line-2.parquet
  edgeloop telemetry samples pull --bundle ic -o calib/
  edgeloop telemetry simulate --devices 50 --reports 20 --interval 0.3 --to http://127.0.0.1:8080"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="subverb", metavar="VERB", required=True)
    export = verbs.add_parser("export", help="stored reports as CSV, JSON lines or Parquet", epilog=EPILOG)
    export.add_argument("--store", metavar="URL", default=DEFAULT_STORE_URL,
                        help="a store, or the address of a running collector; default: %(default)s")  # fmt: skip
    export.add_argument("--format", choices=("csv", "jsonl", "parquet"), default="csv", help="default: %(default)s")
    export.add_argument("-o", "--output", metavar="FILE", default="-", help="default: stdout")
    add_report_filters(export)
    add_import(verbs)
    samples = verbs.add_parser("samples", help="hard samples that devices sent: list, pull, delete", epilog=EPILOG)
    add_samples_arguments(samples)
    simulate = verbs.add_parser("simulate", help="devices that are not there, reporting to a collector", epilog=EPILOG)
    simulate.add_argument("--to", metavar="URL", required=True, help="the collector, for example http://127.0.0.1:8080")
    simulate.add_argument("--devices", type=int, default=10, help="default: %(default)s")
    simulate.add_argument("--reports", type=int, default=20, help="per device; default: %(default)s")
    simulate.add_argument("--interval", type=float, metavar="SECONDS", default=1.0, help="default: %(default)s")
    simulate.add_argument("--batch", type=int, default=1, help="reports of a device per request; default: %(default)s")
    simulate.add_argument("--spool", choices=("memory", "sqlite"), default="memory", help="default: %(default)s")
    simulate.add_argument("--enroll-token-file", metavar="FILE", type=Path,
                          help="with TLS: each device enrolls with this token")  # fmt: skip
    simulate.add_argument("--seed", type=int, default=0, help="same seed, same latencies; default: %(default)s")


def run(args: argparse.Namespace, console: Console) -> int:
    verbs = {"export": _export, "samples": run_samples, "simulate": _simulate, "import": run_import}
    return verbs[args.subverb](args, console)


def _export(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.telemetry.export import export_reports
    from edgeloop.telemetry.reading import Question, open_reader

    path = None if args.output == "-" else Path(args.output)
    if console.json and path is None:
        raise UsageError("--json and the export would share stdout", hint="give the export a file: -o FILE")
    question = asked(args)
    reader = open_reader(args.store)
    try:
        total = reader.total() if question == Question() else None
        with console.step("export", total=total) as advance:
            rows = export_reports(reader.reports(question), path, args.format, advance)
    finally:
        reader.close()
    if path is not None:
        data = {"file": str(path), "format": args.format, "rows": rows}
        console.result(data, f"{counted(rows, 'report')} written to {path}")
    if not rows:
        console.note("no report matches")
    return 0


def _token(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--enroll-token-file {path}: {error}", hint="edgeloop collect token create > FILE") from error


def _simulate(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.telemetry.simulation.simulate import Simulation, simulate

    token = "" if args.enroll_token_file is None else _token(args.enroll_token_file)
    plan = Simulation(
        args.devices, args.reports, args.interval, args.batch, seed=args.seed, spool=args.spool, enroll_token=token
    )
    with console.step("simulate", total=plan.devices * plan.reports) as advance:
        result = simulate(args.to, plan, advance, console.note)
    p50_ms, p95_ms = (round(result.ack_latency.percentile(p), 3) for p in (50, 95))
    data = {
        "devices": plan.devices,
        "reports": plan.devices * plan.reports,
        "acknowledged": result.acknowledged,
        "rejected": result.rejected,
        "merged": result.merged,
        "lost": result.lost,
        "batches": result.batches,
        "retries": result.retries,
        "seconds": round(result.seconds, 3),
        "reports_per_s": round(result.acknowledged / result.seconds, 1),
        "ack_p50_ms": p50_ms,
        "ack_p95_ms": p95_ms,
        "spool": plan.spool,
    }
    sent = counted(plan.devices * plan.reports, "report")
    text = (
        f"{result.acknowledged} of {sent} acknowledged in {result.seconds:.1f} s, p50 {p50_ms:g} ms, p95 {p95_ms:g} ms"
    )
    notes = [
        counted(number, what) + rest
        for number, what, rest in (
            (result.retries, "request", " sent again"),
            (result.merged, "report", " merged into others"),
            (result.rejected, "report", " rejected"),
        )
        if number
    ]
    console.result(data, ", ".join([text, *notes]))
    return 0
