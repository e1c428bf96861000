"""`edgeloop-agent status`: what the running agent says of itself."""

from __future__ import annotations

import argparse

from edgeloop.errors import DeviceError
from edgeloop.mains import json_text
from edgeloop_agent.verbs._state import add_state_arguments, state_folders

EPILOG = """example:
  edgeloop-agent status
  edgeloop-agent status --config /etc/edgeloop/agent.toml --json

Exit codes: 0 it runs, 1 it runs with alerts, 3 it does not run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_state_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from edgeloop_agent.service.agent_state import state_text
    from edgeloop_agent.service.statedir import stand_in
    from edgeloop_agent.service.status import ask, exit_code

    errors: list[DeviceError] = []
    for folder in (where for named in state_folders(args) for where in (named, stand_in(named))):
        try:
            state = ask(folder)
            break
        except DeviceError as error:
            errors.append(error)
    else:
        raise errors[0]
    print(json_text(state) if args.json else state_text(state), flush=True)
    return exit_code(state)
