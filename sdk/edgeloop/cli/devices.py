"""Devices by name, and those around: list, add, remove, find. A name stands wherever a device's URL is taken."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.cli._console import Console
from edgeloop.errors import EXIT_DONE, UsageError

if TYPE_CHECKING:
    from edgeloop.devices.finding import Search
    from edgeloop.devices.looking import Seen

EPILOG = """example:
  edgeloop devices find --user pi
  edgeloop devices add kitchen ssh://pi@kitchen.local
  edgeloop run kitchen ic.bundle --source camera:0
  edgeloop devices list --look

find asks the network (mDNS: what announces SSH, or was installed by edgeloop where avahi runs), this machine's serial
ports and this machine itself; it logs in where your SSH keys let it. Names are kept in devices.toml (config folder)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    found = actions.add_parser("list", help="the devices that have a name")
    found.add_argument("--look", action="store_true", help="log in and say what each is")
    _add_login(found)
    add = actions.add_parser("add", help="give a device a name")
    add.add_argument("name", metavar="NAME")
    add.add_argument("url", metavar="URL", help="ssh://user@host[:port], serial:///dev/ttyUSB0")
    add.add_argument("--replace", action="store_true", help="where the name is another's")
    remove = actions.add_parser("remove", help="forget a name")
    remove.add_argument("name", metavar="NAME")
    find = actions.add_parser("find", help="devices in the network and on serial ports: board, system, Coral sticks")
    find.add_argument("--wait", type=float, default=3.0, metavar="S", help="for answers (default: %(default)g)")
    find.add_argument(
        "--user", default="", metavar="NAME", help="to log in as (default: yours, or as ~/.ssh/config says)"
    )
    find.add_argument("--no-mdns", action="store_true", help="do not ask the network")
    find.add_argument("--no-serial", action="store_true", help="do not ask on serial ports")
    find.add_argument("--no-look", action="store_true", help="do not log in or ask")
    _add_login(find)


def _add_login(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--identity", type=Path, metavar="FILE", help="SSH private key (default: agent and ~/.ssh)")


def run(args: argparse.Namespace, console: Console) -> int:
    return {"list": _list, "add": _add, "remove": _remove, "find": _find}[args.action](args, console)


def _list(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.devices.finding import Search, listed, look_at

    devices = listed()
    if args.look:
        with console.step("look at each", len(devices)) as advance:
            devices = look_at(devices, Search(identity=args.identity), lambda _seen: advance(1))
    _show(devices, console, "no device has a name: edgeloop devices add NAME URL")
    return EXIT_DONE


def _add(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.devices.aliases import add_alias, aliases_path

    add_alias(args.name, args.url, replace=args.replace)
    console.result({"name": args.name, "url": args.url}, f"{args.name} is {args.url} ({aliases_path()})")
    return EXIT_DONE


def _remove(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.devices.aliases import remove_alias

    remove_alias(args.name)
    console.result({"name": args.name}, f"{args.name} is forgotten")
    return EXIT_DONE


def _find(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.devices.finding import find

    with console.step("look around"):
        devices = find(_search(args), lambda seen: console.note(f"found {seen.url}"))
    _show(devices, console, "nothing was found")
    return EXIT_DONE


def _search(args: argparse.Namespace) -> Search:
    from edgeloop.devices.finding import Search

    if not 0.1 <= args.wait <= 60:
        raise UsageError(f"--wait must be 0.1 to 60 seconds, got {args.wait:g}")
    return Search(args.wait, args.user, args.identity, not args.no_mdns, not args.no_serial, not args.no_look)


def _show(devices: list[Seen], console: Console, nothing: str) -> None:
    from edgeloop.bundle.checked import printable

    lines = [printable(line) for device in devices for line in _lines(device)]
    data: list[dict[str, Any]] = [{**asdict(device), "coral": list(device.coral)} for device in devices]
    console.result({"devices": data}, "\n".join(lines) or nothing)


def _lines(device: Seen) -> list[str]:
    """What hosts say of themselves is not to be trusted to be printable."""
    where = f" ({device.address})" if device.address else ""
    agent = f"agent {device.agent}" if device.agent else ""
    python = f"Python {device.python}" if device.python else ""
    what = ", ".join(filter(None, (device.board, device.os, python, device.machine, agent, device.coral_text)))
    lines = [f"{device.name:<20} {device.url}{where}"]
    lines += [f"{'':<20} {what}"] if what else []
    return lines + ([f"{'':<20} {device.problem}"] if device.problem else [])
