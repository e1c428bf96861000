"""Let the version before run again on a device, at once."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeloop.cli._console import Console
from edgeloop.errors import EXIT_DONE

EPILOG = """example:
  edgeloop rollback ssh://pi@pi4.local
  edgeloop rollback ssh://pi@pi4.local ic

Only a version that ran well there before is gone back to."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("url", metavar="URL", help="ssh://user@host[:port]")
    add("name", metavar="NAME", nargs="?", help="the bundle's name, where there are several")
    add("--identity", type=Path, metavar="FILE", help="SSH private key (default: agent and ~/.ssh)")
    add("--prefix", metavar="DIR", help="where it was installed below DIR instead of /")
    add("--wait", metavar="S", type=float, default=60.0, help="for a running agent to take it (default: %(default)g)")


def run(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.deploy.remote_rollback import roll_back
    from edgeloop.devices import connect

    device = connect(args.url, identity=args.identity, note=console.note)
    try:
        done = roll_back(device, args.name, prefix=args.prefix, wait_s=args.wait)
    finally:
        device.close()
    runs = "runs" if done.is_running else "runs from the next start of the agent on"
    data = {"url": args.url, "name": done.name, "version": done.version, "running": done.is_running}
    console.result(data, f"{done.name}: version {done.version} {runs}")
    return EXIT_DONE
