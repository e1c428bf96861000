"""`edgeloop-agent service`: print or install what systemd needs to run the agent."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeloop import paths
from edgeloop.errors import EXIT_DONE, UsageError
from edgeloop.mains import json_text

_USER, _CONFIG = "edgeloop", "/etc/edgeloop/agent.toml"

EPILOG = """example:
  edgeloop-agent service                                       print the unit
  sudo edgeloop-agent service --install                        unit, user, udev rule; then: systemctl enable --now
  edgeloop-agent service --user --install                      for you alone, without root
  edgeloop-agent service --install --root /mnt/card            the same into a mounted image"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--install", action="store_true", help="write the files instead of printing the unit")
    add("--root", metavar="DIR", type=Path, default=Path("/"), help="below which folder (default: /)")
    add("--config", metavar="FILE",
        help="(default: /etc/edgeloop/agent.toml; of a --user service ~/.config/edgeloop/agent.toml)")  # fmt: skip
    add("--user", metavar="NAME", nargs="?", const="", default=_USER,
        help="whom the agent runs as (default: edgeloop); without NAME: you, a systemd --user unit")  # fmt: skip
    add("--command", metavar="WORDS", help="how the agent is started (default: as this one was)")
    add("--memory-max", metavar="SIZE", default="60%", help="for all its processes, 300M or 50%% (default: 60%%)")


def run(args: argparse.Namespace) -> int:
    from edgeloop_agent.service.unit import (
        UNIT_NAME,
        USER_UNIT_NAME,
        Service,
        agent_command,
        install,
        install_for_user,
    )

    is_own = not args.user
    if is_own and args.root != Path("/"):
        raise UsageError("--root goes with a service of the system, --user without a name is yours")
    config = args.config or str(paths.config_dir() / "agent.toml" if is_own else _CONFIG)
    service = Service(
        args.command or agent_command(), config=config, user=args.user or _USER, memory_max=args.memory_max
    )
    if not args.install:
        unit = service.unit(USER_UNIT_NAME if is_own else UNIT_NAME)
        print(json_text({"unit": unit}) if args.json else unit, end="\n" if args.json else "")
        return EXIT_DONE
    done = install_for_user(service, paths.config_dir().parent) if is_own else install(service, args.root)
    if args.json:
        print(json_text({"written": list(done.written), "kept": list(done.kept), "next": list(done.next)}))
    else:
        print("\n".join([*(f"wrote {p}" for p in done.written), *(f"kept {p}" for p in done.kept)]))
        print("next:\n" + "\n".join(f"  {command}" for command in done.next))
    return EXIT_DONE
