"""`edgeloop-agent rollback`: the version before the one that runs."""

from __future__ import annotations

import argparse

from edgeloop.errors import EXIT_DONE, UsageError
from edgeloop.mains import json_text
from edgeloop_agent.verbs._state import add_state_arguments, state_folders

EPILOG = """example:
  edgeloop-agent rollback
  edgeloop-agent rollback ic --config /etc/edgeloop/agent.toml

Only a version that ran well here before is gone back to. An older version never comes in by `update`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="the bundle's name, where there are several")
    parser.add_argument("--trial", action="store_true", help="only end a trial; nothing runs where nothing ran before")
    parser.add_argument("--package", choices=("agent", "config"), help="instead: the agent itself, or its config")
    add_state_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if args.package is not None:
        return _package(args)
    from edgeloop_agent.delivery.apply import end_trial, go_back, installed_names

    state = next((place for place in state_folders(args) if installed_names(place)), None)
    if state is None:
        places = " or ".join(map(str, state_folders(args)))
        raise UsageError(f"nothing came in by `update` in {places}", hint="--state DIR names the agent's folder")
    names = installed_names(state)
    if args.name is None and len(names) > 1:
        raise UsageError(f"which one of {', '.join(names)}?", hint=f"edgeloop-agent rollback {names[0]}")
    name = args.name or names[0]
    version = end_trial(state, name) if args.trial else go_back(state, name)
    text = f"{name}: version {version} runs from the next start of the agent on" if version else f"{name}: nothing runs"
    number = None if version is None else version.number
    print(json_text({"name": name, "version": number}) if args.json else text, flush=True)
    return EXIT_DONE


def _package(args: argparse.Namespace) -> int:
    from edgeloop_agent.delivery.package_folders import read_base
    from edgeloop_agent.delivery.packages import go_back

    places = state_folders(args)
    state = next((place for place in places if read_base(place) is not None), places[0])
    version = go_back(state, args.package)
    runs = f"version {version}" if version else "the installed one"
    number = None if version is None else version.number
    text = f"{args.package}: {runs} runs from the next start of the agent on"
    print(json_text({"name": args.package, "version": number}) if args.json else text, flush=True)
    return EXIT_DONE
