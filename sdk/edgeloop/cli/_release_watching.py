"""`edgeloop release watch`: until told to stop, or once."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgeloop.cli._console import Console
from edgeloop.deploy.release.keyring import Keyring
from edgeloop.deploy.release.repository import Repository, clock
from edgeloop.errors import EXIT_DONE, EXIT_GOAL_NOT_MET, DeviceError, UsageError

if TYPE_CHECKING:
    from edgeloop.deploy.release.halting import Halt


def watch(args: argparse.Namespace, console: Console) -> int:
    """Once, or until told to stop."""
    from edgeloop.cli._stop import stop_requested
    from edgeloop.deploy.release.halting import Limits, check_can_halt, watch_once
    from edgeloop.deploy.release.rollout import EventLog
    from edgeloop.telemetry.reading import open_reader
    from edgeloop.telemetry.store.shown import without_secrets

    if not 0 <= args.tolerate <= 100:
        raise UsageError(f"--tolerate {args.tolerate:g} is not 0 to 100 %")
    limits, keyring = Limits(args.tolerate / 100), Keyring.open(args.key)
    check_can_halt(Repository.load(args.repo), keyring)
    reader = open_reader(args.telemetry)
    if not args.once:
        console.note(f"watching {args.repo} by {without_secrets(args.telemetry)}, every {args.interval:g} s")
    halted: list[Halt] = []
    trouble, log = "", EventLog()
    try:
        with stop_requested() as stop:
            while True:
                try:
                    now = watch_once(args.repo, reader, keyring, clock(), limits, log)
                    trouble = ""
                except (DeviceError, UsageError) as error:  # a collector that is away, another release at work
                    if args.once:
                        raise
                    if error.message != trouble:
                        console.note(f"warning: {error}; it is tried again")
                    trouble, now = error.message, []
                for halt in now:
                    console.note(f"halted: {halt.name} version {halt.version} in {halt.channel}: {halt.reason}")
                halted += now
                if args.once or stop.wait(args.interval):
                    break
    finally:
        reader.close()
    lines = [f"halted   {h.channel}: {h.name} version {h.version}: {h.reason}" for h in halted]
    console.result({"repo": str(args.repo), "halted": [vars(h) for h in halted]}, "\n".join(lines) or "nothing halted")
    return EXIT_GOAL_NOT_MET if halted and args.once else EXIT_DONE
