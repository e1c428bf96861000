"""Waiting until a device has committed a version or gone back, whatever the way to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from edgeloop.deploy.cargo import Cargo
from edgeloop.deploy.verdict import Bad, Well, judge, judge_package
from edgeloop.errors import DeviceError, GoalNotMetError

_LOOK_EVERY_S = 1.0

Look = Callable[[], tuple[Mapping[str, Any], Mapping[str, Any]]]
"""(standing of this model or package, status of the agent) as `judge` takes them; {} for what cannot be had now."""


def wait_until_well(
    url: str, cargo: Cargo, look: Look, wait_s: float, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Raises GoalNotMetError for a rollback, DeviceError when the time is over."""
    until_s = time.monotonic() + wait_s
    before: Bad | None = None
    while True:
        standing, status = look()
        if cargo.is_bundle:
            verdict = judge(cargo.name, cargo.digest, cargo.version, standing, status)
        else:
            verdict = judge_package(cargo.digest, standing, status)
        if isinstance(verdict, Well):
            return
        if isinstance(verdict, Bad) and verdict != before:
            before = verdict  # seen amid a rollback: the reason may be a moment behind the switch
        elif isinstance(verdict, Bad):
            raise GoalNotMetError(
                f"{url} rolled back version {cargo.version}: {verdict.reason}",
                hint="what ran before runs again" if standing.get("running") else "nothing ran there before",
            )
        if time.monotonic() > until_s:
            raise DeviceError(
                f"{url}: version {cargo.version} was not committed within {wait_s:.0f} s: {verdict.reason}",
                hint="edgeloop-agent logs on the device says more",
            )
        sleep(_LOOK_EVERY_S)
