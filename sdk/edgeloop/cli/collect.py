"""Take in the devices' reports, store them, show them on a page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.cli._collect_admin import add_subverbs, run_subverb
from edgeloop.cli._console import Console
from edgeloop.cli._words import counted
from edgeloop.errors import UsageError
from edgeloop.telemetry.store import DEFAULT_STORE_URL

if TYPE_CHECKING:
    from edgeloop.telemetry.collector import CollectorHandle

_DEFAULT_FOLDER = Path()

EPILOG = """example:
  edgeloop collect
  edgeloop collect --listen 127.0.0.1:8080 --store sqlite:///telemetry.db
  edgeloop collect --serial /dev/ttyUSB0 --serial /dev/ttyACM0?baud=57600
  edgeloop collect init --host collector.local
  edgeloop collect --tls --listen 0.0.0.0:8443
  edgeloop collect --alerts alerts.toml
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
        "--retain",
        metavar="TIME",
        default="forever",
        help="how long reports are kept: 30d, 12w, forever (default); hourly and daily sums stay",
    )
    parser.add_argument(
        "--retain-hourly",
        metavar="TIME",
        default="forever",
        help="how long sums by the hour are kept (default forever); those by the day always stay",
    )
    parser.add_argument(
        "--retain-samples",
        metavar="TIME",
        default="forever",
        help="how long hard samples are kept: 30d, 12w, forever (default)",
    )
    parser.add_argument(
        "--samples-per-day", type=int, default=500, metavar="N", help="hard samples taken of a device (default 500)"
    )
    parser.add_argument(
        "--samples-mib", type=int, default=512, metavar="N", help="of hard samples kept of a device (default 512)"
    )
    parser.add_argument(
        "--mqtt",
        metavar="URL",
        action="append",
        default=[],
        help="take reports from a broker too (repeatable): mqtts://host:8883?ca=ca.pem&login=FILE",
    )
    parser.add_argument(
        "--serial",
        metavar="PORT",
        action="append",
        default=[],
        help="take a serial port too (repeatable), or rfc2217://HOST:PORT, socket://HOST:PORT; ?baud= is its speed",
    )
    parser.add_argument("--alerts", metavar="FILE", type=Path, help="rules to watch and webhooks to call, as TOML")
    parser.add_argument(
        "--open",
        action="store_true",
        help="let everybody in who reaches the address, without login",
    )
    parser.add_argument(
        "--tls",
        metavar="DIR",
        nargs="?",
        type=Path,
        const=_DEFAULT_FOLDER,
        help="HTTPS with the CA and certificate of `collect init`; devices enroll, people log in",
    )
    parser.add_argument("--log", choices=("text", "json"), default="text", help="events on stderr: lines, or objects")
    parser.add_argument(
        "--max-connections", type=int, default=4000, metavar="N", help="connections at once (default 4000)"
    )

    add_subverbs(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    if args.matter is not None:
        return run_subverb(args, console)
    from edgeloop.telemetry.alerts.rules import NO_ALERTS, read_alerts
    from edgeloop.telemetry.collector import run_collector
    from edgeloop.telemetry.collector.http_server import Doors
    from edgeloop.telemetry.collector.limits import ConnectionLimits
    from edgeloop.telemetry.collector.logs import Log
    from edgeloop.telemetry.collector.security.authority import default_folder
    from edgeloop.telemetry.samples.keeping import Quota
    from edgeloop.telemetry.store.retention import Retention, parse_days

    retention = Retention(parse_days(args.retain, "--retain"), parse_days(args.retain_hourly, "--retain-hourly"))
    log = Log(as_json=args.log == "json")
    tls = default_folder() if args.tls == _DEFAULT_FOLDER else args.tls
    if min(args.samples_per_day, args.samples_mib) < 0:
        raise UsageError("--samples-per-day and --samples-mib are 0 (take none) or more")
    samples = Quota(args.samples_per_day, args.samples_mib << 20, parse_days(args.retain_samples, "--retain-samples"))
    connections = ConnectionLimits(count=max(args.max_connections, 1))
    doors = Doors(tls, args.open, connections, samples=samples, on_entry=log.audit)

    def on_ready(handle: CollectorHandle) -> None:
        if args.open:
            how = "unencrypted" if tls is None else "without login"
            log.notice(f"--open: whoever reaches this address can read the telemetry and send reports, {how}")
        data = {
            "url": handle.url, "store": handle.store.url, "serial": args.serial, "mqtt": args.mqtt, "open": args.open,
            "tls": None if tls is None else str(tls),
        }  # fmt: skip
        lines = [
            f"collector  {handle.url}",
            f"store      {handle.store.url}",
            *(f"serial     {port}" for port in args.serial),
            *(f"mqtt       {url}" for url in args.mqtt),
        ]
        console.result(data, "\n".join(lines))

    alerts = NO_ALERTS if args.alerts is None else read_alerts(args.alerts)
    handle = run_collector(
        args.store,
        args.listen,
        args.serial,
        brokers=args.mqtt,
        doors=doors,
        alerts=alerts,
        retention=retention,
        say=log.notice,
        on_ready=on_ready,
    )
    counts, _models, _latency = handle.ingest.metrics.snapshot()
    stored, again = counts.get("reports_stored", 0), counts.get("reports_duplicate", 0)
    rejected = counts.get("reports_rejected", 0)
    log.notice(f"stopped; {counted(stored, 'report')} stored, {again} sent again, {rejected} rejected")
    return 0
