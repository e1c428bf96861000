"""`edgeloop-agent versions`: what came in by `update`, what runs of it, what it falls back to, and what failed why."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from edgeloop.errors import EXIT_DONE, DeviceError
from edgeloop.mains import json_text
from edgeloop_agent.delivery.package_folders import AGENT, CONFIG
from edgeloop_agent.delivery.shown import packages_as_dict, standing_as_dict
from edgeloop_agent.verbs._state import add_state_arguments, state_folders

EPILOG = """example:
  edgeloop-agent versions
  edgeloop-agent versions --config /etc/edgeloop/agent.toml --json

Read from the disk: the agent need not run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_state_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from edgeloop_agent.delivery.apply import installed_names, model_folder

    found: list[dict[str, Any]] = []
    for state in state_folders(args):
        for name in installed_names(state):
            folder = model_folder(state, name)
            found.append({"name": name, "link": str(folder.current), **standing_as_dict(folder.standing())})
    packages: dict[str, dict[str, Any] | None] = {AGENT: None, CONFIG: None}
    for state in state_folders(args):
        packages.update(packages_as_dict(state) or {})
    lines = [_text(model) for model in found] + [_text(package) for package in packages.values() if package]
    if lines and all(map(_is_silent, state_folders(args))):
        lines.append("no agent runs now: its next start runs these")
    text = "\n".join(lines) or "nothing came in by `update`"
    print(json_text({"models": found, **packages}) if args.json else text, flush=True)
    return EXIT_DONE


def _is_silent(state: Path) -> bool:
    """Whether no agent runs on this folder; False where that cannot be known."""
    from edgeloop_agent.service.status import ask

    try:
        ask(state)
    except DeviceError as error:
        return isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, (PermissionError, TimeoutError))
    return False


def _text(model: dict[str, Any]) -> str:
    failed, running = model["failed"], model["running"]
    none = "the installed one runs" if model["name"] in ("agent", "config") else "nothing runs"
    runs = none if running is None else f"version {running['number']} runs"
    state = ", on trial" if model["on_trial"] else ""
    kept = ", ".join(str(version["number"]) for version in model["kept"])
    numbers = {version["digest"]: f"version {version['number']}" for version in model["kept"]}
    lines = [f"{model['name']}: {runs}{state}; kept: {kept or 'none'}"]
    return "\n".join(lines + [f"  failed: {numbers.get(digest, digest)}: {why}" for digest, why in failed.items()])
