"""Whether a device runs what was deployed, by what its agent says. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Well:
    """Committed, and running now."""


@dataclass(frozen=True)
class Bad:
    """It was given up there. reason: one line, of the device."""

    reason: str


@dataclass(frozen=True)
class Pending:
    """reason: what is still missing."""

    reason: str


def judge(
    name: str, digest: str, number: int, standing: Mapping[str, Any], status: Mapping[str, Any]
) -> Well | Bad | Pending:
    """standing: of `edgeloop-agent versions`, {} where it has none. status: {} where no agent answers."""
    found = judge_package(digest, standing, status)
    if isinstance(found, Bad) or not status:
        return found
    models = [model for model in status.get("models") or () if model.get("bundle") == name]
    phases = [str(model.get("phase")) for model in models if model.get("version") == number]
    if "running" not in phases:
        return Pending(f"the agent is {phases[0] if phases else 'not at this version yet'}")
    return found


def judge_package(digest: str, standing: Mapping[str, Any], status: Mapping[str, Any]) -> Well | Bad | Pending:
    """The same of an agent or a config, which runs no model of its own: the agent's models run with it."""
    failed = standing.get("failed") or {}
    if digest in failed:
        return Bad(str(failed[digest]))
    running, committed = (_digest(standing.get(key)) for key in ("running", "committed"))
    if running is not None and running != digest:
        return Bad(f"version {standing['running'].get('number')} was switched to by somebody else")
    if not status:
        return Pending("no agent answers")
    if committed != digest or standing.get("on_trial"):
        return Pending("it is on trial")
    return Well()


def _digest(version: Any) -> str | None:
    return str(version["digest"]) if isinstance(version, Mapping) and "digest" in version else None
