"""`edgeloop-agent logs`: the events that the agent has written down."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeloop.errors import EXIT_DONE, DeviceError, UsageError
from edgeloop.mains import json_text
from edgeloop_agent.verbs._state import add_state_arguments, state_folders

EPILOG = """example:
  edgeloop-agent logs
  edgeloop-agent logs -n 200 --kind fallback --kind throttling --json

What an agent under systemd says besides: journalctl -u edgeloop-agent"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_state_arguments(parser)
    parser.add_argument("-n", type=int, default=30, metavar="N", help="the last N of them (default: 30)")
    parser.add_argument("--kind", action="append", metavar="KIND", help="only events of this kind; may be repeated")


def run(args: argparse.Namespace) -> int:
    from edgeloop_agent.service.event_log import FILE, OLDER, read_events

    if args.n < 1:
        raise UsageError(f"-n must be at least 1, got {args.n}")
    folders = state_folders(args)
    folder = next((f for f in folders if (f / FILE).exists() or (f / OLDER).exists()), folders[0])
    if not folder.is_dir():
        raise DeviceError(f"no agent has run in {folder}", hint="--state DIR or --config FILE names another")
    try:
        everything = list(read_events(folder))
    except OSError as error:
        raise DeviceError(f"{folder}: {error.strerror}", hint="sudo, or as the agent's user") from error
    events = [e for e in everything if not args.kind or e.get("kind") in args.kind][-args.n :]
    there = sorted({str(e.get("kind")) for e in everything})
    if args.json:
        print(json_text({"state": str(folder), "events": events, "kinds": there}), flush=True)
    else:
        print("\n".join(map(_line, events)) or _nothing(args.kind, there, folder), flush=True)
    return EXIT_DONE


def _nothing(asked: Sequence[str] | None, there: Sequence[str], folder: Path) -> str:
    if not asked or not there:
        return f"nothing happened yet ({folder})"
    return f"no event of kind {' or '.join(asked)} ({folder}); there are: {', '.join(there)}"


def _line(event: dict[str, Any]) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["time"]))
    return f"{when}  {event.get('kind', ''):<14} {event.get('detail', '')}"
