"""`edgeloop-agent pull`: one poll of the release repository; what is new goes through the door."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.errors import EdgeloopError, MissingExtraError, UsageError
from edgeloop.mains import json_text

if TYPE_CHECKING:
    from edgeloop_agent.config import AgentConfig
    from edgeloop_agent.release.pull import Model, Pulled
    from edgeloop_agent.release.repository import Repository

EPILOG = """example:
  edgeloop-agent pull --config /etc/edgeloop/agent.toml
  edgeloop-agent pull --release https://releases.example.org/fleet --channel beta --json

A running agent with `release` in its config does this by itself every `release_interval` seconds. Whom it believes says
STATE/release/root.json, which flash or deploy brought; what it fetches goes through the same door as `update`.
Exit codes: 0 nothing new, or on trial; 1 the door refused it; 3 the repository cannot be reached; 4 it is not to be
trusted: tampered with, out of date, signed by others."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", metavar="FILE", type=Path, help="the agent's config file: release, channel, tags, state, trust")
    add("--state", metavar="DIR", type=Path, help="the agent's state folder")
    add("--release", metavar="URL", help="the repository: https://HOST/PATH[?ca=FILE]")
    add("--channel", metavar="NAME", help="which channel (default: stable)")
    add("--tag", dest="tags", metavar="TAG", action="append", help="what kind of device this is; may be repeated")
    add("--device", metavar="NAME", help="this device's name (default: the host's)")
    add("--rate", dest="release_rate", metavar="B/S", type=float, help="at most so many bytes per second")
    add("--trust", metavar="PATH", type=Path, action="append", help="as in run")
    add("--again", action="store_true", help="try what was refused here before")


def run(args: argparse.Namespace) -> int:
    from edgeloop_agent.release.polling import details
    from edgeloop_agent.release.telling import leave

    config = _config(args)
    if not config.release:
        raise UsageError("no repository is named", hint='--release URL, or release = "URL" in the config')
    try:
        pulled = _pull(config, args)
    except EdgeloopError as error:
        leave(config.state, details({"error": {"message": error.message, "exit_code": error.exit_code}}, 0))
        raise
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("tuf", "urllib3", "securesystemslib"):
            raise
        raise MissingExtraError("pull", "release") from error
    leave(config.state, details(asdict(pulled), 0))
    print(json_text({**asdict(pulled), "release": config.release}) if args.json else _text(pulled), flush=True)
    return pulled.exit_code


def _config(args: argparse.Namespace) -> AgentConfig:
    from edgeloop_agent.config_reading import load_configs

    given = {"state": args.state, "device": args.device, "release": args.release, "channel": args.channel}
    more = {"tags": tuple(args.tags or ()), "trust": tuple(args.trust or ()), "release_rate": args.release_rate}
    # Without a file nothing says what runs here, and nothing asks: the state folder knows what came in.
    needed = {} if args.config is not None else {"bundle": Path("any.bundle"), "source": "synthetic:"}
    return load_configs({**given, **more, **needed}, args.config)[0]


def _pull(config: AgentConfig, args: argparse.Namespace) -> Pulled:
    from edgeloop.telemetry.transports.tls import client_context
    from edgeloop_agent.release.door import door_of
    from edgeloop_agent.release.http_files import HttpFiles
    from edgeloop_agent.release.pull import FOLDER, Device, pull
    from edgeloop_agent.release.repository import Repository
    from edgeloop_agent.release.settings import parse_release

    address = parse_release(config.release)
    context = client_context(address.ca) if address.url.startswith("https:") else None
    files = HttpFiles(address.url, context=context, rate=config.release_rate)

    def repository() -> Repository:
        return Repository(address.url, config.state / FOLDER, files)

    to_door = ["--state", str(config.state)]
    to_door += [] if args.config is None else ["--config", str(args.config)]
    to_door += [part for path in args.trust or () for part in ("--trust", str(path))]
    again = ["--again"] if args.again else []
    try:
        return pull(
            repository, config.channel, Device(config.device, config.state, config.tags), door_of(to_door + again),
            again=args.again, note=_note,
        )  # fmt: skip
    finally:
        files.close()


def _text(pulled: Pulled) -> str:
    lines = [f"channel {pulled.channel}, serial {pulled.serial}"]
    lines += [_of_model(model) for model in pulled.models]
    return "\n".join(lines if pulled.models else [*lines, "nothing here came in through `update`: nothing is pulled"])


def _of_model(model: Model) -> str:
    if model.state == "waiting":
        return f"{model.name}: waiting, {model.reason}"
    what = {"current": "nothing new", "trial": f"version {model.version} is on trial", "there": "is there already"}
    said = what.get(model.state, f"version {model.version} {model.state}" if model.version else model.state)
    reason = f": {model.reason}" + (f" -> {model.hint}" if model.hint else "") if model.reason else ""
    return f"{model.name}: {said}{reason}"


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
