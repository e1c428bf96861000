"""`edgeloop deploy` over the line that a device reports by: the file in chunks, the device's own door, its verdict.

    offer (signed) -> chunks, from where they stopped -> the door there -> on trial -> committed, or rolled back

A line that vanishes is waited for. Whatever was lost on the way, the device says what it has.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Any, TypeVar

from edgeloop.deploy.cargo import Cargo
from edgeloop.deploy.host import error_of
from edgeloop.deploy.remote import Deployed
from edgeloop.deploy.waiting import wait_until_well
from edgeloop.devices.commanding.commander import AnsweredError, Commander
from edgeloop.devices.commanding.direct import LineGoneError
from edgeloop.errors import DeviceError, GoalNotMetError, UsageError
from edgeloop.progress import Advance, Progress
from edgeloop.telemetry.commands.values import Plain
from edgeloop.telemetry.serial_link.chunks import COMPLETE, FAILED, chunk_count, decode_arrived
from edgeloop.telemetry.serial_link.transfer import FileToSend

_ASK_S, _POLL_S = 15.0, 4.0
_QUIET_S = 15.0
_AGAIN_S = 1.0
_AT_THE_DOOR_S = 0.5
_NOT_NOW = ("another start", "try again in a second")
"""In what a device says of a command that holds when it is signed anew."""
_AWAY_S = 10.0
"""Longer than an agent takes to change over to another version."""
T = TypeVar("T")


@dataclass(frozen=True)
class LinePlan:
    """max_p95_ms, max_memory_mib, again: asked of the door. wait_s: with no news for so long it is given up."""

    cargo: Cargo
    max_p95_ms: float | None = None
    max_memory_mib: float | None = None
    again: bool = False
    dry_run: bool = False
    wait_s: float = 900.0
    device: str = ""
    """As it says of itself; for exceptions that are signed for one device."""


class _Agent:
    """A device whose line may go and come back."""

    def __init__(self, url: str, connect: Callable[[], Commander], wait_s: float, progress: Progress) -> None:
        self._url, self._connect, self._wait_s, self._progress = url, connect, wait_s, progress
        self._commander: Commander | None = connect()
        self._is_away = False

    def do(self, work: Callable[[Commander], T]) -> T:
        """As often as it takes. Raises what the device itself says, and DeviceError when nobody was there for
        `wait_s`."""
        until_s, failing_s = time.monotonic() + self._wait_s, 0.0
        while True:
            began_s = time.monotonic()
            try:
                if self._commander is None:
                    self._commander = self._connect()
                done = work(self._commander)
                if self._is_away:
                    self._is_away = False
                    self._progress.note(f"{self._url} is back")
                return done
            except AnsweredError as error:
                if not any(text in error.message for text in _NOT_NOW) or time.monotonic() > until_s:
                    raise
            except DeviceError as error:
                self.close()
                if time.monotonic() > until_s:
                    raise
                failing_s += time.monotonic() - began_s + _AGAIN_S
                if not self._is_away and (isinstance(error, LineGoneError) or failing_s > _AWAY_S):
                    self._is_away = True
                    self._progress.note(f"{error.message}; waiting for it to come back")
            time.sleep(_AGAIN_S)

    def ask(self, kind: str, arguments: dict[str, Plain] | None = None) -> dict[str, Any]:
        """What goes round: an agent that changes versions hears nothing for a moment, so it is soon asked again."""
        return self.do(lambda commander: commander.ask(kind, arguments, timeout_s=_POLL_S))

    def close(self) -> None:
        if self._commander is not None:
            self._commander.close()
            self._commander = None


def deploy_over_line(url: str, connect: Callable[[], Commander], plan: LinePlan, progress: Progress) -> Deployed:
    """Raises GoalNotMetError where the device refuses the bundle or rolls it back, RefusedError where it trusts another
    key, DeviceError, UsageError."""
    with connect() as first:  # whether anybody is there is said at once
        info, delivery = first.ask("info", timeout_s=_ASK_S), first.ask("delivery", timeout_s=_ASK_S)
    plan = replace(plan, device=str(info.get("device")))
    _check_runs_versions(url, plan.cargo, info, delivery)
    if plan.dry_run:
        return Deployed("would be installed", str(info.get("agent")), (f"{plan.cargo.bytes} bytes go there",))
    agent = _Agent(url, connect, plan.wait_s, progress)
    try:
        began_s = time.monotonic()
        verdict = _sent(agent, plan, progress)
        seconds = time.monotonic() - began_s
        _check_verdict(url, verdict)
        with progress.step("wait until it is well"):
            wait_until_well(url, plan.cargo, lambda: _look(agent, plan.cargo), plan.wait_s)
    finally:
        agent.close()
    steps = (f"{plan.cargo.bytes} bytes sent and judged in {seconds:.1f} s",)
    return Deployed("committed", str(info.get("agent")), steps)


def roll_back_over_line(
    url: str, connect: Callable[[], Commander], name: str | None, *, wait_s: float, progress: Progress
) -> tuple[str, int]:
    """(name, the version that runs now). Raises DeviceError where there is nothing to go back to, or the agent does not
    take it; RefusedError where it obeys others."""
    with connect() as first:
        given: dict[str, Plain] = {"name": name} if name else {}
        # Once: its answer may be lost, and twice goes further back.
        done = first.ask("rollback", given, timeout_s=_ASK_S)
    went, version = str(done["name"]), int(done["version"])
    agent = _Agent(url, connect, wait_s, progress)
    try:
        until_s = time.monotonic() + wait_s
        while True:
            for model in agent.ask("info").get("models", ()):
                if (model.get("bundle"), model.get("version"), model.get("phase")) == (went, version, "running"):
                    return went, version
            if time.monotonic() > until_s:
                raise DeviceError(f"{url}: the agent does not run version {version} after {wait_s:.0f} s")
            time.sleep(_AGAIN_S)
    finally:
        agent.close()


def _check_runs_versions(url: str, cargo: Cargo, info: dict[str, Any], delivery: dict[str, Any]) -> None:
    """A version that nothing would run is not sent."""
    if not cargo.is_bundle:
        if delivery.get("packages") is None:
            raise UsageError(
                f"{url} takes no agents and configs over its line: no service that looks for them runs there",
                hint="edgeloop deploy ssh://... installs one; an agent from before this way needs a newer one first",
            )
        return
    name = cargo.name
    running = {str(model.get("bundle")) for model in info.get("models", ())}
    installed = {str(model.get("name")) for model in delivery.get("models", ())}
    if name not in running & installed:
        has = ", ".join(sorted(running & installed)) or "none"
        if name in running:
            has += f", and {name} from a file, which no version follows"
        raise UsageError(
            f"{url} takes no versions of {name!r} over its line; it runs versions of {has}",
            hint="the first comes by flash or by edgeloop deploy ssh://...; or on the device by edgeloop-agent update "
            f"{cargo.path.name}, and the link that it prints as `bundle` in the config",
        )


def _sent(agent: _Agent, plan: LinePlan, progress: Progress) -> dict[str, Any]:
    """The door's verdict on the file, which is sent as far as it is not there."""
    data = plan.cargo.path.read_bytes()
    offer = token_hex(8)
    file = FileToSend(len(data), lambda offset, count: data[offset : offset + count])
    until_s = time.monotonic() + plan.wait_s
    with progress.step(f"send {len(data)} bytes", chunk_count(len(data))) as advance:
        counted = _Counted(advance)
        while True:
            seen = agent.ask("delivery", {"offer": offer})
            if (verdict := seen.get("verdict")) is not None:
                return dict(verdict)
            if seen["incoming"]["phase"] == "door" and seen["incoming"]["offer"] == offer:
                time.sleep(_AT_THE_DOOR_S)
            else:
                if agent.do(lambda commander: _send(commander, plan, offer, data, file, counted)) == FAILED:
                    raise DeviceError(
                        "the device cannot write what arrives", hint="look at its disk, then deploy again"
                    )
            if counted.has_moved():
                until_s = time.monotonic() + plan.wait_s
            elif time.monotonic() > until_s:
                raise DeviceError("the door there does not come to a verdict", hint="edgeloop-agent logs says more")


class _Counted:
    """Progress that goes on where a transfer was cut."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._seen = self._shown = 0

    def at(self, count: int) -> None:
        if count > self._shown:
            self._advance(count - self._shown)
            self._shown = count

    def has_moved(self) -> bool:
        moved, self._seen = self._shown > self._seen, self._shown
        return moved


def _send(commander: Commander, plan: LinePlan, offer: str, data: bytes, file: FileToSend, counted: _Counted) -> int:
    """The state in which the transfer ended; COMPLETE where the device needs none of it to judge."""
    cargo = plan.cargo
    arguments: dict[str, Plain] = {
        "offer": offer, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data),
        "unpacked_bytes": cargo.unpacked_bytes, "name": cargo.folder_name, "version": cargo.version,
        "digest": cargo.digest, "target": cargo.target,
    }  # fmt: skip
    for name, value in (("max_p95", plan.max_p95_ms), ("max_memory", plan.max_memory_mib)):
        if value is not None:
            arguments[name] = value
    if not cargo.is_bundle:
        arguments["kind"] = cargo.kind
    for name, is_so in (("again", plan.again), ("may_go_back", cargo.may_go_back(plan.device))):
        if is_so:
            arguments[name] = True
    taken = commander.ask("deploy", arguments, timeout_s=_ASK_S)
    if taken.get("judged"):
        return COMPLETE
    arrived = decode_arrived(bytes.fromhex(str(taken["arrived"])))
    count = arrived.first_missing + len(arrived.beyond)
    counted.at(count)

    def on_arrived(more: int) -> None:
        nonlocal count
        count += more
        counted.at(count)

    return commander.transfer(int(taken["transfer"]), file, arrived, on_arrived, _QUIET_S).state


def _check_verdict(url: str, verdict: dict[str, Any]) -> None:
    if verdict["state"] == "refused":
        raise GoalNotMetError(f"{url} refused it: {verdict['reason']}", hint=verdict["hint"] or "what ran there runs")
    if verdict["state"] not in ("trial", "there"):
        raise error_of(url, {"message": verdict["reason"], "hint": verdict["hint"]}, int(verdict["exit_code"]))


def _look(agent: _Agent, cargo: Cargo) -> tuple[dict[str, Any], dict[str, Any]]:
    with suppress(DeviceError):
        said = agent.ask("delivery")
        if not cargo.is_bundle:
            return dict((said.get("packages") or {}).get(cargo.kind) or {}), agent.ask("info")
        standing = next((dict(model) for model in said.get("models", ()) if model.get("name") == cargo.name), {})
        return standing, agent.ask("info")
    return {}, {}
