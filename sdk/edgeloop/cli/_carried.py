"""`edgeloop telemetry import`: reports that a stick brought."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.cli._console import Console
from edgeloop.cli._words import counted
from edgeloop.errors import DeviceError
from edgeloop.telemetry.store import DEFAULT_STORE_URL

if TYPE_CHECKING:
    from edgeloop.telemetry.wire.codec import Ack

EPILOG = """example:
  edgeloop telemetry import /media/usb/edgeloop --store sqlite:///telemetry.db
  edgeloop telemetry import /media/usb/edgeloop --to http://127.0.0.1:8080
  EDGELOOP_TOKEN=... edgeloop telemetry import /media/usb/edgeloop --to https://host:8443?ca=ca.pem

A device writes there with --telemetry file:///media/usb/edgeloop. What is stored is answered on the stick and removed
from it; carry it back, and the device lets go of these reports, too. Taking in the same files again stores nothing
twice. A collector that wants a login takes it by an operator's token. Exit code 3: the stick takes no
answers, or the collector is away; 4: it does not let you. What is not answered comes again."""


def add_import(verbs: Any) -> None:
    """The parser of this verb."""
    verb = verbs.add_parser("import", help="take in the reports that a stick brought", epilog=EPILOG)
    verb.add_argument(
        "folder", metavar="FOLDER", type=Path, help="where the devices wrote, one folder for each of them"
    )
    where = verb.add_mutually_exclusive_group()
    where.add_argument("--store", metavar="URL", default=DEFAULT_STORE_URL, help="default: %(default)s")
    where.add_argument("--to", metavar="URL", help="a running collector instead, for example http://127.0.0.1:8080")
    verb.add_argument("--keep", action="store_true", help="leave the reports on the stick, too")


def run_import(args: argparse.Namespace, console: Console) -> int:
    """DeviceError when not everything could be taken in and answered."""
    from edgeloop.telemetry.collector.carried_import import CarriedImport

    with _into(args, console) as handle:
        done = CarriedImport(handle, keep=args.keep).run(args.folder)
    data = {
        "folder": str(args.folder), "files": done.files, "devices": done.folders, "accepted": done.accepted,
        "rejected": done.rejected, "failed": list(done.failed), "unanswered": list(done.unanswered),
    }  # fmt: skip
    for line in done.failed:
        console.note(f"not taken in: {line}")
    files, devices = counted(done.files, "file"), counted(done.folders, "device")
    rejected = f", {done.rejected} rejected" if done.rejected else ""
    console.result(data, f"{counted(done.accepted, 'report')} of {devices} in {files} taken in and answered{rejected}")
    if done.unanswered:
        raise DeviceError(
            f"{counted(len(done.unanswered), 'file')} stored but not answered: {done.unanswered[0]}",
            hint="mount the stick writable and import again; nothing is stored twice",
        )
    return 0


@contextmanager
def _into(args: argparse.Namespace, console: Console) -> Iterator[Callable[[bytes], Ack]]:
    if args.to is not None:
        from edgeloop.telemetry.collector.carried_import import carried_to

        yield carried_to(args.to)
        return
    from edgeloop.telemetry.collector.ingest import Ingest
    from edgeloop.telemetry.collector.notices import Notices
    from edgeloop.telemetry.collector.security.revoked import RevokedNames
    from edgeloop.telemetry.store import open_store

    store = open_store(args.store)
    try:
        yield Ingest(store, Notices(console.note), revoked=RevokedNames(store.database)).handle
    finally:
        store.close()
