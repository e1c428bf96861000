"""Let the version before run again on a device, at once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.cli._console import Console
from edgeloop.devices.aliases import device_url
from edgeloop.errors import EXIT_DONE, UsageError

if TYPE_CHECKING:
    from edgeloop.devices.commanding import Commander

EPILOG = """example:
  edgeloop rollback ssh://pi@pi4.local
  edgeloop rollback ssh://pi@pi4.local ic
  edgeloop rollback ssh://pi@pi4.local --package config
  edgeloop rollback serial:///dev/ttyUSB0
  edgeloop rollback pi-1 --collector http://127.0.0.1:8080

Only a version that ran well there before is gone back to."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("url", metavar="URL", type=device_url, help="ssh://user@host[:port], serial:///dev/ttyUSB0, or a NAME")
    add("name", metavar="NAME", nargs="?", help="the bundle's name, where there are several")
    add("--package", choices=("agent", "config"), help="instead, over SSH: the agent itself, or its config")
    add("--identity", type=Path, metavar="FILE", help="SSH private key (default: agent and ~/.ssh)")
    add("--prefix", metavar="DIR", help="where it was installed below DIR instead of /")
    add("--user-service", action="store_true", help="where it was deployed with --user-service")
    add("--collector", metavar="URL", help="of a NAME: it passes on what you signed")
    add("--wait", metavar="S", type=float, default=60.0, help="for a running agent to take it (default: %(default)g)")


def run(args: argparse.Namespace, console: Console) -> int:
    if args.package is not None:
        return _package(args, console)
    name, version, is_running = (_over_ssh if args.url.startswith("ssh://") else _over_line)(args, console)
    runs = "runs" if is_running else "runs from the next start of the agent on"
    data = {"url": args.url, "name": name, "version": version, "running": is_running}
    console.result(data, f"{name}: version {version} {runs}")
    return EXIT_DONE


def _package(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.deploy.remote_package import roll_back_package
    from edgeloop.devices import connect

    if not args.url.startswith("ssh://") or args.name is not None:
        raise UsageError("--package goes over SSH, without a bundle's name", hint="edgeloop rollback ssh://user@host")
    device = connect(args.url, identity=args.identity, note=console.note)
    try:
        version = roll_back_package(device, args.package, prefix=args.prefix, is_own_service=args.user_service)
    finally:
        device.close()
    what = "the installed one" if version is None else f"version {version}"
    data = {"url": args.url, "name": args.package, "version": version}
    console.result(data, f"{args.package}: {what} runs; a running agent changes to it by itself")
    return EXIT_DONE


def _over_ssh(args: argparse.Namespace, console: Console) -> tuple[str, int, bool]:
    from edgeloop.deploy.remote_rollback import roll_back
    from edgeloop.devices import connect

    device = connect(args.url, identity=args.identity, note=console.note)
    try:
        done = roll_back(device, args.name, prefix=args.prefix, wait_s=args.wait, is_own_service=args.user_service)
    finally:
        device.close()
    return done.name, done.version, done.is_running


def _over_line(args: argparse.Namespace, console: Console) -> tuple[str, int, bool]:
    from edgeloop.deploy.serial_deploy import roll_back_over_line
    from edgeloop.devices.commanding import connect_agent

    def connected() -> Commander:
        return connect_agent(args.url, args.collector)

    name, version = roll_back_over_line(args.url, connected, args.name, wait_s=args.wait, progress=console)
    return name, version, True
