"""Check this machine: Python, interpreter, CPU, delegates, Coral, serial ports; each finding with its fix."""

from __future__ import annotations

import argparse

from edgeloop.cli._console import Console

EPILOG = """example:
  edgeloop doctor
  edgeloop doctor --json
  edgeloop doctor --delegate edgetpu        why is it not used?
on a device: edgeloop-agent doctor. Exit code 0 when nothing failed (warnings do not count), else 1."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--delegate", action="append", default=[], metavar="D", help="also try to load this delegate")


def run(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.doctor import HOST, as_dict, as_text, examine, exit_code

    with console.step("examine this machine"):
        findings = examine(HOST, delegates=args.delegate)
    console.result(as_dict(findings), as_text(findings))
    return exit_code(findings)
