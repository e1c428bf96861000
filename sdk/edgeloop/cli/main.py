"""`edgeloop`: the only place on the host that prints errors and exits."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import signal
import sys
import threading
from collections.abc import Sequence
from types import ModuleType

from edgeloop.cli._console import Console
from edgeloop.errors import EXIT_USAGE
from edgeloop.mains import ArgumentParser, as_edgeloop_error, lenient_output, report_error, silence_stdout
from edgeloop.version import VERSION

VERBS: dict[str, tuple[str, str]] = {
    # verb: (module, one line). A verb module has `EPILOG`, `add_arguments(parser)` and `run(args, console) -> int`.
    "demo": ("edgeloop.cli.demo", "the whole loop on real input, in under a minute"),
    "targets": ("edgeloop.cli.targets", "list the boards edgeloop knows"),
    "analyze": ("edgeloop.cli.analyze", "what a model costs, and where its ops would run"),
    "check-data": ("edgeloop.cli.check_data", "is my data right? each finding with its fix"),
    "convert": ("edgeloop.cli.convert", "make a signed int8 bundle of a trained model"),
    "evaluate": ("edgeloop.cli.evaluate", "measure an exported file against its float model"),
    "compare": ("edgeloop.cli.compare", "two models or bundles beside each other; fail where one got worse"),
    "fuse": ("edgeloop.cli.fuse", "several models as one file: one after another, or on one input"),
    "bench": ("edgeloop.cli.bench", "measure a model or bundle on a device"),
    "devices": ("edgeloop.cli.devices", "names for devices, and those around: list, add, remove, find"),
    "device": ("edgeloop.cli.device", "ask a running agent: ping, info, bench, profile, log level"),
    "doctor": ("edgeloop.cli.doctor", "check this machine, each finding with its fix"),
    "bundle": ("edgeloop.cli.bundle", "create, inspect, sign and verify bundles"),
    "keys": ("edgeloop.cli.keys", "your signing key and the keys trusted here"),
    "run": ("edgeloop.cli.run", "try a bundle on a device and see its latency live"),
    "flash": ("edgeloop.cli.flash", "an SD card's image with agent and bundle, without root"),
    "deploy": ("edgeloop.cli.deploy", "put a bundle on devices for good: over SSH, a serial line or a stick"),
    "rollback": ("edgeloop.cli.rollback", "let the version before run again on a device"),
    "release": ("edgeloop.cli.release", "a signed repository that agents pull from: publish, steer, watch"),
    "collect": ("edgeloop.cli.collect", "take in the devices' reports, store and show them"),
    "monitor": ("edgeloop.cli.monitor", "watch the devices in a terminal"),
    "telemetry": ("edgeloop.cli.telemetry", "export stored reports, simulate devices"),
}

_EXIT_INTERRUPTED = 130


def build_parser(verb: str | None) -> argparse.ArgumentParser:
    """The whole parser; only `verb`'s module is imported, so that every start is quick."""
    parser = ArgumentParser(
        prog="edgeloop",
        description="Take a trained model to Raspberry Pi and Coral devices, and keep it honest there.",
        epilog="Start with: edgeloop demo",
    )
    parser.help_command = f"edgeloop {verb} --help" if verb else ""
    parser.add_argument("--version", action="version", version=f"edgeloop {VERSION}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, (module_name, line) in VERBS.items():
        if name != verb:
            verbs.add_parser(name, help=line)
            continue
        module = importlib.import_module(module_name)
        sub = verbs.add_parser(
            name, help=line, description=module.__doc__, epilog=module.EPILOG
        )  # fmt: skip
        module.add_arguments(sub)
        add_json_flag(sub)
    return parser


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """`--json` on the verb, or on each of its subverbs where it has some; on both where it goes without them, too."""
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    leaves = [leaf for group in groups for leaf in group.choices.values()]
    line = "one JSON object on stdout, nothing else there"
    if not any(group.required for group in groups):
        parser.add_argument("--json", action="store_true", help=line)
    for leaf in leaves:  # a default of its own would undo the verb's
        default = False if all(group.required for group in groups) else argparse.SUPPRESS
        leaf.add_argument("--json", action="store_true", default=default, help=line)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, and turn errors into one line and an exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = next((a for a in arguments if not a.startswith("-")), None)
    as_json = "--json" in arguments
    lenient_output()
    _end_tidily()
    try:
        args = build_parser(verb if verb in VERBS else None).parse_args(arguments)
        as_json = args.json
        return int(_module(args.verb).run(args, Console(json=as_json)))
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # the terminal may be gone
            print("edgeloop: interrupted", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except BrokenPipeError:  # `edgeloop ... | head`
        silence_stdout()
        return EXIT_USAGE
    except Exception as error:
        return report_error("edgeloop", as_edgeloop_error(error), as_json=as_json)


def _end_tidily() -> None:
    """On SIGTERM and where the terminal is closed, as on Ctrl-C: child processes and temporary folders go, too. Verbs
    that run until told have their own way; under `nohup` SIGHUP stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def _module(verb: str) -> ModuleType:
    return importlib.import_module(VERBS[verb][0])
