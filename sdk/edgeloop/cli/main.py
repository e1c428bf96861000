"""`edgeloop`: the only place on the host that prints errors and exits."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from edgeloop.cli._console import Console
from edgeloop.errors import EXIT_USAGE, EdgeloopError
from edgeloop.version import VERSION

VERBS: dict[str, tuple[str, str]] = {
    # verb: (module, one line). A verb module has `EPILOG`, `add_arguments(parser)` and `run(args, console) -> int`.
    "demo": ("edgeloop.cli.demo", "the whole loop on real input, in under a minute"),
    "targets": ("edgeloop.cli.targets", "list the boards edgeloop knows"),
    "analyze": ("edgeloop.cli.analyze", "what a model costs, and where its ops would run"),
    "check-data": ("edgeloop.cli.check_data", "is my data right? each finding with its fix"),
    "convert": ("edgeloop.cli.convert", "make a signed int8 bundle of a trained model"),
    "evaluate": ("edgeloop.cli.evaluate", "measure an exported file against its float model"),
    "bench": ("edgeloop.cli.bench", "measure a model or bundle on a device"),
    "doctor": ("edgeloop.cli.doctor", "check this machine, each finding with its fix"),
    "bundle": ("edgeloop.cli.bundle", "create, inspect, sign and verify bundles"),
    "keys": ("edgeloop.cli.keys", "your signing key and the keys trusted here"),
    "run": ("edgeloop.cli.run", "try a bundle on a device and see its latency live"),
    "collect": ("edgeloop.cli.collect", "take in the devices' reports, store and show them"),
    "monitor": ("edgeloop.cli.monitor", "watch the devices in a terminal"),
    "telemetry": ("edgeloop.cli.telemetry", "export stored reports, simulate devices"),
}

_EXIT_INTERRUPTED = 130


def build_parser(verb: str | None) -> argparse.ArgumentParser:
    """The whole parser; only `verb`'s module is imported, so that every start is quick."""
    parser = argparse.ArgumentParser(
        prog="edgeloop",
        description="Take a trained model to Raspberry Pi and Coral devices, and keep it honest there.",
        epilog="Start with: edgeloop demo",
    )
    parser.add_argument("--version", action="version", version=f"edgeloop {VERSION}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, (module_name, line) in VERBS.items():
        if name != verb:
            verbs.add_parser(name, help=line)
            continue
        module = importlib.import_module(module_name)
        sub = verbs.add_parser(
            name, help=line, description=module.__doc__, epilog=module.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        module.add_arguments(sub)
        add_json_flag(sub)
    return parser


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """`--json` on the verb, or on each of its subverbs where it has some."""
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    leaves = [leaf for group in groups for leaf in group.choices.values()] or [parser]
    for leaf in leaves:
        leaf.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else there")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, and turn errors into one line and an exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = next((a for a in arguments if not a.startswith("-")), None)
    args = build_parser(verb if verb in VERBS else None).parse_args(arguments)
    console = Console(json=args.json)
    try:
        return int(_module(args.verb).run(args, console))
    except EdgeloopError as error:
        return fail(console, error)
    except KeyboardInterrupt:
        print("edgeloop: interrupted", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except BrokenPipeError:  # `edgeloop ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_USAGE


def fail(console: Console, error: EdgeloopError) -> int:
    """One line on stderr with the next step; with --json the same as an object on stdout."""
    print(f"edgeloop: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  -> {error.hint}", file=sys.stderr)
    if console.json:
        body = {"error": {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}}
        print(json.dumps(body, ensure_ascii=False))
    return error.exit_code


def _module(verb: str) -> ModuleType:
    return importlib.import_module(VERBS[verb][0])
