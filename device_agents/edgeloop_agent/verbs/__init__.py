"""The verbs of `edgeloop-agent` that look at an agent, at its board or at what it recorded: one light module each.

A module has `EPILOG`, `add_arguments(parser)` and `run(args) -> exit code`.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from typing import Any

# verb: (one line, module)
VERBS: Mapping[str, tuple[str, str]] = {
    "status": ("what the agent on this device does right now", "edgeloop_agent.verbs.status"),
    "logs": ("what happened on this device", "edgeloop_agent.verbs.logs"),
    "bench": ("measure a bundle or model on this device", "edgeloop_agent.verbs.bench"),
    "capture": ("collect calibration data through this device's camera", "edgeloop_agent.verbs.capture"),
    "simulate": ("a recorded load under other settings of the governor", "edgeloop_agent.verbs.simulate"),
    "autotune": ("find the best threads, delegate and variant here", "edgeloop_agent.verbs.autotune"),
    "update": ("let a newer bundle in: verified, rehearsed, on trial", "edgeloop_agent.verbs.update"),
    "pull": ("what a release offers this device, through the same door", "edgeloop_agent.verbs.pull"),
    "versions": ("what came in by update, and what runs of it", "edgeloop_agent.verbs.versions"),
    "rollback": ("let the version before run again", "edgeloop_agent.verbs.rollback"),
    "enroll": ("get this device its credential from a collector", "edgeloop_agent.verbs.enroll"),
    "service": ("run the agent under systemd", "edgeloop_agent.verbs.service"),
}


def add_verb(verbs: Any, name: str) -> argparse.ArgumentParser:
    """Add one to the parser's verbs; its `run` is the parsed `run_verb`."""
    summary, module = VERBS[name]
    found = importlib.import_module(module)
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + ".", epilog=found.EPILOG
    )  # fmt: skip
    found.add_arguments(parser)
    parser.set_defaults(run_verb=found.run)
    return parser
