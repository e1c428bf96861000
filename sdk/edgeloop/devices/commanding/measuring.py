"""Measuring the bundle that a running agent has, on its device."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeloop.bench import BenchReport
from edgeloop.bench.per_op import OpProfile, read_profiles
from edgeloop.devices.commanding.commander import Commander
from edgeloop.errors import DeviceError
from edgeloop.telemetry.commands.values import Plain

_HOST_PATIENCE_S = 30.0  # beyond what the device itself may take


@dataclass(frozen=True)
class OnDevice:
    """What to measure. bundle "": whatever runs there; version 0: whichever. delegates (): the bundle's own. pause: the
    agent's workers stop meanwhile, else they go on beside it."""

    bundle: str = ""
    version: int = 0
    variants: tuple[str, ...] = ()
    delegates: tuple[str, ...] = ()
    threads: int = 1
    n: int = 200
    pause: bool = False
    timeout_s: float = 300.0

    def arguments(self) -> dict[str, Plain]:
        """Of the command."""
        given: dict[str, Plain] = {"threads": self.threads, "n": self.n, "timeout_s": self.timeout_s}
        if self.bundle:
            given["bundle"] = self.bundle
        if self.version:
            given["version"] = self.version
        if self.variants:
            given["variants"] = list(self.variants)
        if self.delegates:
            given["delegates"] = list(self.delegates)
        if self.pause:
            given["pause"] = True
        return given


@dataclass(frozen=True)
class Measured:
    """worker: "running" or "paused", which is what the agent's own did meanwhile."""

    report: BenchReport
    bundle: str
    version: int
    worker: str


def bench_there(agent: Commander, what: OnDevice) -> Measured:
    """Raises DeviceError, with the next step where the bundle is not there, RefusedError."""
    body = _ask(agent, "bench", what)
    report = BenchReport.from_json(json.dumps(body))
    return Measured(report, str(body.get("bundle", "")), int(body.get("version", 0)), str(body.get("worker", "")))


def profile_there(agent: Commander, what: OnDevice) -> Sequence[OpProfile]:
    """Raises as `bench_there`."""
    return read_profiles(json.dumps(_ask(agent, "profile", what)).encode())


def _ask(agent: Commander, kind: str, what: OnDevice) -> dict[str, Any]:
    try:
        return agent.ask(kind, what.arguments(), timeout_s=what.timeout_s + _HOST_PATIENCE_S)
    except DeviceError as error:
        if "is not on this device" not in error.message:
            raise
        hint = "measure it over SSH (--device ssh://USER@HOST brings it along), or run it there first"
        raise DeviceError(error.message, hint=hint) from error
