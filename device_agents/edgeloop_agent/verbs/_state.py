"""Which state folder a verb is about."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeloop import paths
from edgeloop.errors import ConfigError

SERVICE_STATE = Path("/var/lib/edgeloop/agent")


def add_state_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state", metavar="DIR", type=Path, help="the agent's state folder")
    parser.add_argument("--config", metavar="FILE", type=Path, help="the agent's config file, which may name it")


def state_folders(args: argparse.Namespace) -> list[Path]:
    """Where to look, the likeliest first: the folder that was named, else this user's and the service's."""
    if args.state is not None:
        return [args.state]
    if args.config is not None:
        from edgeloop.tomlfile import read_toml

        named = read_toml(args.config, "agent config").get("state")
        if named is not None and not isinstance(named, str):
            raise ConfigError(f"agent config {args.config}: 'state' must be a string")
        if named:
            return [Path(named)]
    return list(dict.fromkeys((paths.state_dir() / "agent", SERVICE_STATE)))
