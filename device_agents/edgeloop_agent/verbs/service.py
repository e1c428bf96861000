"""`edgeloop-agent service`: print or install what systemd needs to run the agent."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeloop.errors import EXIT_DONE
from edgeloop.mains import json_text

EPILOG = """example:
  edgeloop-agent service                                       print the unit
  sudo edgeloop-agent service --install                        unit, user, udev rule; then: systemctl enable --now
  edgeloop-agent service --install --root /mnt/card            the same into a mounted image"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--install", action="store_true", help="write the files instead of printing the unit")
    add("--root", metavar="DIR", type=Path, default=Path("/"), help="below which folder (default: /)")
    add("--config", metavar="FILE", default="/etc/edgeloop/agent.toml", help="(default: /etc/edgeloop/agent.toml)")
    add("--user", metavar="NAME", default="edgeloop", help="whom the agent runs as (default: edgeloop)")
    add("--command", metavar="WORDS", help="how the agent is started (default: as this one was)")
    add("--memory-max", metavar="SIZE", default="60%", help="for all its processes, 300M or 50%% (default: 60%%)")


def run(args: argparse.Namespace) -> int:
    from edgeloop_agent.service.unit import Service, agent_command, install

    service = Service(args.command or agent_command(), config=args.config, user=args.user, memory_max=args.memory_max)
    if not args.install:
        print(json_text({"unit": service.unit()}) if args.json else service.unit(), end="\n" if args.json else "")
        return EXIT_DONE
    done = install(service, args.root)
    if args.json:
        print(json_text({"written": list(done.written), "kept": list(done.kept), "next": list(done.next)}))
    else:
        print("\n".join([*(f"wrote {p}" for p in done.written), *(f"kept {p}" for p in done.kept)]))
        print("next:\n" + "\n".join(f"  {command}" for command in done.next))
    return EXIT_DONE
