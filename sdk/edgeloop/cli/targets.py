"""List the boards edgeloop knows, or show one of them."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from edgeloop.cli._console import Console
from edgeloop.targets import TARGETS, Target, load_target

EPILOG = """example:
  edgeloop targets
  edgeloop targets rpi4 --json
  edgeloop targets my_board.toml        a target of your own; `base = "rpi4"` starts from a known one"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", nargs="?", help="id or TOML file; without it all are listed")


def run(args: argparse.Namespace, console: Console) -> int:
    targets = [load_target(args.target)] if args.target else list(TARGETS.values())
    lines = [f"{'id':<16} {'architecture':<12} {'cpu':<11} {'RAM':>9} {'delegates':<22} board"]
    for t in targets:
        ram = f"{t.ram_bytes / (1 << 20):.0f} MiB"
        lines.append(f"{t.id:<16} {t.architecture:<12} {t.cpu:<11} {ram:>9} {', '.join(t.delegates):<22} {t.name}")
        if args.target:
            lines += _details(t)
    console.result({"targets": [asdict(t) for t in targets]}, "\n".join(lines))
    return 0


def _details(target: Target) -> list[str]:
    dot = "yes" if target.has_dot_product else "no"
    lines = [
        f"cores: {target.cores}; int8 dot product: {dot}; channel counts pay off in steps of {target.channel_tile}"
    ]
    if target.accelerator is not None:
        a = target.accelerator
        ids = f", USB {' or '.join(a.usb_ids)}" if a.usb_ids else ""
        node = f", {a.device_node}" if a.device_node else ""
        lines.append(f"accelerator: {a.name}, {a.sram_bytes / (1 << 20):.0f} MiB on chip{ids}{node}")
    return [*lines, f"note: {target.notes}"] if target.notes else lines
