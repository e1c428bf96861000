"""`edgeloop telemetry samples`: hard samples that devices sent, where their owner turned that on."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.cli._collect_admin import user_name
from edgeloop.cli._console import Console
from edgeloop.cli._words import counted
from edgeloop.errors import UsageError
from edgeloop.telemetry.collector.notices import printable
from edgeloop.telemetry.store import DEFAULT_STORE_URL

if TYPE_CHECKING:
    from edgeloop.telemetry.samples.keeping import KeptSample

LIST, PULL, DELETE = "list", "pull", "delete"


def add_samples_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=(LIST, PULL, DELETE), help="show them, copy them into a folder, or wipe them")
    parser.add_argument("--store", metavar="URL", default=DEFAULT_STORE_URL,
                        help="a store, or the address of a running collector; default: %(default)s")  # fmt: skip
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="pull: a folder, for `convert --data DIR`")
    parser.add_argument("--device", metavar="ID", help="only of this device")
    parser.add_argument("--bundle", metavar="NAME", help="only of this bundle")
    parser.add_argument("--version", type=int, metavar="N", help="only of this version of it")
    parser.add_argument("--reason", choices=("low_confidence", "audit_disagreement"), help="only those chosen for it")
    parser.add_argument("--before", metavar="TIME", help="only those that arrived before 30d ago, an ISO date or time")
    parser.add_argument("--all", action="store_true", help="delete: yes, all of them")


def run_samples(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.telemetry.samples.keeping import SampleQuery
    from edgeloop.telemetry.samples.pulling import open_samples, pull
    from edgeloop.telemetry.times import parse_time

    if (args.output is None) == (args.action == PULL):
        raise UsageError(f"samples {args.action}: -o DIR is for pull, which needs it")
    before_s = None if args.before is None else parse_time(args.before, time.time(), "--before")
    query = SampleQuery(args.device, args.bundle, args.version, args.reason, before_s=before_s)
    if args.action == DELETE and query == SampleQuery() and not args.all:
        raise UsageError("samples delete: which ones?", hint="--device, --bundle, ..., or --all")
    samples = open_samples(args.store, user_name())
    if args.action == LIST:
        found = samples.find(query)
        console.result({"samples": [sample.to_dict() for sample in found]}, _table(found))
    elif args.action == DELETE:
        gone = samples.delete(query)
        console.result({"deleted": gone}, f"{counted(gone, 'sample')} deleted")
    else:
        with console.step("pull") as advance:
            pulled = pull(samples, query, args.output, advance)
        lines = [
            f"{counted(pulled['samples'], 'sample')} ({pulled['new']} new) in {pulled['data']}",
            f"what the models said: {pulled['answers']}",
            f"next: edgeloop convert MODEL --data {pulled['data']} ...",
        ]
        console.result(pulled, "\n".join(lines))
    return 0


def _table(found: Sequence[KeptSample]) -> str:
    if not found:
        return "no samples"
    lines = [f"{'device':<20} {'model':<20} {'reason':<18} {'sure':>5} {'bytes':>8} {'received':<19}"]
    for sample in found:
        sure = "" if sample.confidence is None else f"{sample.confidence:.2f}"
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(sample.received_s))
        device, reason = printable(sample.device), printable(sample.reason)  # a collector elsewhere chose them
        model = printable(f"{sample.bundle} v{sample.version}")
        lines.append(f"{device:<20} {model:<20} {reason:<18} {sure:>5} {sample.bytes:>8} {when}")
    return "\n".join(lines)
