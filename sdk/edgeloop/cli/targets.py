"""List the boards edgeloop knows, or show one of them."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from edgeloop.cli._console import Console
from edgeloop.targets import TARGETS, load_target

EPILOG = """example:
  edgeloop targets
  edgeloop targets rpi4 --json
  edgeloop targets my_board.toml        a target of your own; `base = "rpi4"` starts from a known one"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", nargs="?", help="id or TOML file; without it all are listed")


def run(args: argparse.Namespace, console: Console) -> int:
    targets = [load_target(args.target)] if args.target else list(TARGETS.values())
    lines = [f"{'id':<16} {'architecture':<12} {'cpu':<11} {'RAM':>7}  {'delegates':<20} board"]
    for t in targets:
        ram = f"{t.ram_bytes / (1 << 20):.0f} MiB"
        lines.append(f"{t.id:<16} {t.architecture:<12} {t.cpu:<11} {ram:>8} {', '.join(t.delegates):<20} {t.name}")
        if args.target and t.notes:
            lines.append(f"note: {t.notes}")
    console.result({"targets": [asdict(t) for t in targets]}, "\n".join(lines))
    return 0
