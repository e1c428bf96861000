"""Make an SD card of an operating system's image, on which the agent runs a bundle from the first boot on."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.cli._console import Console
from edgeloop.cli._release_flags import add_release_flags, release_root, release_settings
from edgeloop.errors import EXIT_DONE, UsageError
from edgeloop.tomlfile import parse_toml

if TYPE_CHECKING:
    from edgeloop.deploy.flash import Flashed
    from edgeloop.deploy.image.first_boot import FirstBoot

EPILOG = """example:
  edgeloop flash raspios.img.xz -o pi-1.img --bundle ic.bundle --source camera:0 --hostname pi-1 --serial uart
  edgeloop flash raspios.img.xz -o /dev/sdb --bundle ic.bundle --source camera:0 --user pi --ssh-key ~/.ssh/id.pub \\
      --telemetry https://collector.local:8443 --ca ca.pem --enroll-token elt-...
  edgeloop flash card.img --bundle ic.bundle --source camera:0 --dry-run

Needs no root for image files (only for /dev/...), and the packages e2fsprogs and mtools. The original stays as it is
until everything is written and was read back. The device trusts the key that is given, else yours."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("image", metavar="IMAGE", type=Path, help="Raspberry Pi OS or Debian, .img or .img.xz")
    add("-o", "--out", metavar="OUT", type=Path, help="file or block device (default: IMAGE itself is changed)")
    add("--yes", metavar="DEVICE", type=Path, help="the device once more, where it looks like no card")
    add("--force", action="store_true", help="write over a file OUT that is there")
    add("--dry-run", action="store_true", help="show what would be written")
    add("--slim", action="store_true", help="agent without OpenCV: for arrays, sound and sensor lines")
    model = parser.add_argument_group("what runs")
    model.add_argument("--bundle", metavar="FILE", type=Path, help="the bundle that runs from the first boot on")
    model.add_argument("--source", metavar="SOURCE", help="where frames come from, as in edgeloop-agent run")
    model.add_argument("--sink", metavar="SINK", action="append", default=[], help="where results go; may be repeated")
    model.add_argument("--trust", metavar="KEY.pub", type=Path, action="append", default=[], help="may be repeated")
    model.add_argument("--telemetry", metavar="URL", help="where reports go")
    model.add_argument("--config", metavar="FILE", type=Path, help="an agent.toml to begin with (docs/agent.md)")
    model.add_argument("--ca", metavar="FILE", type=Path, help="the collector's ca.pem")
    model.add_argument(
        "--enroll-token", metavar="T", help="from edgeloop collect token create: the device enrolls itself"
    )
    add_release_flags(parser)
    card = parser.add_argument_group("the first boot")
    card.add_argument("--hostname", metavar="NAME")
    card.add_argument("--user", metavar="NAME", help="with --ssh-key, or a password (asked for, or EDGELOOP_PASSWORD)")
    card.add_argument("--ssh-key", metavar="FILE", type=Path, action="append", default=[], help="may be repeated")
    card.add_argument("--wifi", metavar="NAME", help="its password is asked for, or in EDGELOOP_WIFI_PASSWORD")
    card.add_argument("--wifi-country", metavar="CC", default="", help="as DE or US; needed with --wifi")
    card.add_argument("--serial", choices=("uart", "usb"), help="free this line for the agent, and report over it")


def run(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.deploy.card import CardPlan
    from edgeloop.deploy.flash import FlashPlan, flash
    from edgeloop.deploy.image.first_boot import SERIAL_DEVICES

    settings: dict[str, Any] = {}
    for name, value in (("source", args.source), ("telemetry", args.telemetry), ("sink", args.sink)):
        if value:
            settings[name] = value
    settings |= release_settings(args)
    if args.serial and not args.telemetry:
        settings["telemetry"] = f"serial://{SERIAL_DEVICES[args.serial]}?baud=115200"
    if args.bundle is not None and not args.source and args.config is None:
        raise UsageError("a bundle needs a source of frames", hint="--source camera:0")
    config = _config(args)
    if args.bundle is not None and not args.hostname and "device" not in parse_toml(config or "", "--config"):
        settings["device"] = "{hostname}-{machine}"  # a card that names no board may be copied
    _check_settings(settings, args)
    card = CardPlan(
        args.bundle,
        _keys(args.trust),
        settings,
        config=config,
        slim=args.slim,
        ca=args.ca,
        enroll_token=args.enroll_token or "",
        release_root=release_root(args),
    )
    plan = FlashPlan(
        args.image, args.out, card, _first_boot(args),
        named_twice=args.yes is not None and args.yes == args.out, dry_run=args.dry_run, overwrite=args.force,
    )  # fmt: skip
    done = flash(plan, console)
    console.result(_as_dict(done), _text(done, args))
    return EXIT_DONE


def _check_settings(settings: Mapping[str, Any], args: argparse.Namespace) -> None:
    """As the agent on the device will judge them. Raises UsageError."""
    from edgeloop.telemetry.transports import open_transport
    from edgeloop_agent.config_reading import load_config
    from edgeloop_agent.sinks import parse_sink
    from edgeloop_agent.sources import parse_source

    source = settings.get("source", "synthetic:")
    given = {
        "source": source,
        "sinks": tuple(args.sink),
        "telemetry": (settings["telemetry"],) if args.telemetry else (),
    }
    load_config({**given, "bundle": Path("any.bundle"), "device": "any"})
    parse_source(source)
    for sink in args.sink:
        parse_sink(sink)
    if args.telemetry:
        open_transport(args.telemetry, device="any").close()
    if args.enroll_token and not args.telemetry:
        raise UsageError("--enroll-token is for a collector", hint="--telemetry https://HOST:8443")


def _config(args: argparse.Namespace) -> str | None:
    """The text of --config, judged as the agent on the device will judge it. Raises UsageError, ConfigError."""
    from edgeloop_agent.config_reading import load_configs

    if args.config is None:
        return None
    if args.bundle is None:
        raise UsageError("--config is for a card that runs a bundle", hint="--bundle FILE")
    try:
        text = str(args.config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {args.config} cannot be read: {error}") from error
    load_configs({"bundle": Path("any.bundle"), "source": args.source, "device": "any"}, args.config)
    return text


def _keys(given: list[Path]) -> tuple[Path, ...]:
    if given:
        return tuple(given)
    from edgeloop.bundle.trust import user_key_dir

    return tuple(sorted(user_key_dir().glob("*.pub")))


def _first_boot(args: argparse.Namespace) -> FirstBoot:
    from edgeloop.deploy.image.first_boot import FirstBoot
    from edgeloop.deploy.passwords import password_hash

    keys = tuple(line for path in args.ssh_key for line in _public_keys(path))
    password = os.environ.get("EDGELOOP_PASSWORD", "")
    if args.user and not keys and not password:
        password = _asked(f"password of {args.user} on the device: ", "EDGELOOP_PASSWORD")
    wifi = None
    if args.wifi is not None:
        if not args.wifi_country:
            raise UsageError("--wifi needs the country it is used in", hint="--wifi-country DE")
        secret = os.environ.get("EDGELOOP_WIFI_PASSWORD", "")
        secret = secret or _asked(f"password of the network {args.wifi}: ", "EDGELOOP_WIFI_PASSWORD")
        wifi = (args.wifi, secret, args.wifi_country)
    return FirstBoot(
        hostname=args.hostname or "", user=args.user or "", password_hash=password_hash(password) if password else "",
        authorized_keys=keys, wifi=wifi, serial=args.serial or "",
    )  # fmt: skip


def _asked(question: str, variable: str) -> str:
    if not sys.stdin.isatty():
        raise UsageError("a password is asked for, and there is no terminal", hint=f"set {variable}")
    return getpass.getpass(question)


def _public_keys(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.expanduser().read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"SSH key {path} cannot be read: {error}") from error
    found = [line for line in lines if line.startswith(("ssh-", "ecdsa-", "sk-"))]
    if not found:
        raise UsageError(f"{path} holds no public SSH key", hint="the file that ends in .pub is meant")
    return found


def _as_dict(done: Flashed) -> dict[str, Any]:
    return {
        "out": None if done.out is None else str(done.out),
        "system": done.facts.name,
        "machine": done.facts.machine,
        "agent_version": done.installation.agent_version,
        "bundle": done.installation.link or None,
        "files": len(done.installation.files),
        "bytes": done.installation.bytes,
        "first_boot": list(done.first_boot_paths),
    }


def _config_lines(done: Flashed) -> list[str]:
    """What the agent's config will say."""
    from edgeloop.deploy.card import CONFIG
    from edgeloop.deploy.image.files import FileEntry

    entry = done.installation.files[CONFIG]
    assert isinstance(entry, FileEntry) and isinstance(entry.content, bytes)
    return [line for line in entry.content.decode().splitlines() if line and not line.startswith("#")]


def _text(done: Flashed, args: argparse.Namespace) -> str:
    from edgeloop.deploy.card import TRUSTED

    facts, installed = done.facts, done.installation
    lines = [
        f"system   {facts.name}, {facts.machine}, Python {facts.python[0]}.{facts.python[1]}",
        f"agent    {installed.agent_version}: {len(installed.files)} files, {installed.bytes / 1e6:.0f} MB",
        *([f"bundle   {installed.link}"] if installed.link else []),
        *(f"sets     {path}" for path in done.first_boot_paths),
    ]
    if done.out is None:
        lines += [f"trusts   {path}" for path in installed.files if path.startswith(f"{TRUSTED}/")]
        lines += [f"config   {line}" for line in _config_lines(done)]
        return "\n".join([*lines, "nothing was written (--dry-run)"])
    onto = str(done.out).startswith("/dev/")
    following = "take the card out" if onto else f"edgeloop flash {done.out} -o /dev/sdX, or any card writer"
    return "\n".join([*lines, f"written  {done.out}, read back and equal", f"next     {following}"])
