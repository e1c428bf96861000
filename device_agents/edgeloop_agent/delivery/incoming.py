"""Bundles that come over the line by which this device reports: taken in, let through the door, told about.

    deploy (signed) -> chunks, acknowledged -> the door, in a process of its own -> its verdict, by `delivery`

The commands are handled in the supervisor's loop, chunks in the line's thread. What has arrived and what the door said
are files, so a device that was started again goes on where it was. No numpy: this is in the supervisor.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from secrets import randbits
from typing import Any

from edgeloop.errors import DataError, DeviceError, UsageError
from edgeloop.telemetry.commands.values import Command
from edgeloop.telemetry.serial_link.chunks import FAILED, RECEIVING, UNKNOWN, Arrived, decode_chunk, encode_arrived
from edgeloop_agent.config import AgentConfig
from edgeloop_agent.delivery.apply import go_back, installed_names, model_folder, package_on_trial
from edgeloop_agent.delivery.here import this_device
from edgeloop_agent.delivery.incoming_door import Order, budget_words, failed_verdict, start_door
from edgeloop_agent.delivery.incoming_files import PartialFile, checked_offer, read_verdict, write_verdict
from edgeloop_agent.delivery.incoming_stick import StickWatch
from edgeloop_agent.delivery.package_folders import AGENT, CONFIG, package_folder, read_base
from edgeloop_agent.delivery.shown import packages_as_dict, standing_as_dict
from edgeloop_agent.delivery.update import Admit, Offer, Refuse, Version, judge_offer
from edgeloop_agent.delivery.versions import VersionFolder

_BUSY_S = 10.0
"""A transfer of which nothing came for so long does not keep another one out."""
_ACK_EVERY, _ACK_AFTER_S = 4, 0.05
_ENDING_S = 0.5
"""A door that has switched to a new version has its verdict written by then; a stop must not wait for a rehearsal."""

Answer = Callable[[bytes], None]
Say = Callable[[str, str], None]


def door_words(config: AgentConfig) -> tuple[str, ...]:
    """Flags of `edgeloop-agent update` that say what this agent was told: how bundles run here, and who is trusted."""
    words = ["--state", str(config.state), "--device", config.device, "--load-timeout", f"{config.load_timeout:g}"]
    words += [word for path in config.trust for word in ("--trust", str(path))]
    words += [word for name in config.delegates for word in ("--delegate", name)]
    words += ["--variant", config.variant] if config.variant else []
    return tuple(words + (["--threads", str(config.threads)] if config.threads else []))


class _Transfer:
    """One file that arrives; `take` in the line's thread."""

    def __init__(self, offer: str, file: PartialFile, words: tuple[str, ...], sha256: str) -> None:
        self.id = randbits(32)
        self.offer, self.file, self.words, self.sha256 = offer, file, words, sha256
        self.state = RECEIVING
        self.heard_s = time.monotonic()
        self._unanswered, self._answered_s = 0, 0.0

    def take(self, body: bytes, answer: Answer) -> None:
        try:
            number, data = decode_chunk(body)
        except DataError:
            return
        self.heard_s = time.monotonic()
        try:
            self.file.put(number, data)
        except OSError:
            self.state = FAILED
        self._unanswered += 1
        chunks = self.file.chunks
        is_due = self._unanswered >= _ACK_EVERY or self.heard_s - self._answered_s >= _ACK_AFTER_S
        if is_due or chunks.has_gaps or chunks.is_complete or self.state == FAILED:
            self._unanswered, self._answered_s = 0, self.heard_s
            answer(encode_arrived(chunks.arrived(self.state)))


class LineDelivery:
    """For one run of the agent. `say` gets an event, (kind, detail)."""

    def __init__(self, state: Path, words: tuple[str, ...], stick: StickWatch | None = None) -> None:
        """words: see `door_words`. stick: another way in, looked after here, too."""
        self.say: Say = lambda _kind, _detail: None
        self._stick = stick
        self.handlers: Mapping[str, Callable[[Command], dict[str, Any]]] = {
            "deploy": self._deploy,
            "delivery": self._delivery,
            "rollback": self._rollback,
        }
        self._state, self._words = state, words
        self._lock = threading.Lock()
        self._transfer: _Transfer | None = None
        self._door: subprocess.Popen[bytes] | None = None
        self._offer = ""

    @property
    def is_at_the_door(self) -> bool:
        """A rehearsal goes on, or is about to begin."""
        transfer = self._transfer
        return self._door is not None or (transfer is not None and transfer.file.chunks.is_complete)

    def take_chunk(self, transfer_id: int, body: bytes, answer: Answer) -> None:
        """See `OnChunk`."""
        with self._lock:
            transfer = self._transfer
            if transfer is not None and transfer.id == transfer_id:
                transfer.take(body, answer)
            else:
                answer(encode_arrived(Arrived(state=UNKNOWN)))

    def look(self, *, is_quiet: bool) -> None:
        """Once per round of the supervisor's loop. is_quiet: nothing is being measured here, so that the door may."""
        if self._stick is not None:
            self._stick.start()
            for kind, detail in self._stick.heard():
                self.say(kind, detail)
        door = self._door
        if door is not None:
            if door.poll() is not None:
                self._door = None
                self._tell_of_verdict()
            return
        transfer = self._transfer
        if transfer is not None and transfer.file.chunks.is_complete and is_quiet:
            self._begin(transfer)

    def close(self) -> None:
        """The run ends. A door that has just let something in is given the time to say so; else nothing was changed."""
        self._let_go()
        if self._stick is not None:
            self._stick.close()
        door, self._door = self._door, None
        if door is not None:
            with suppress(subprocess.TimeoutExpired):
                door.wait(_ENDING_S)
            door.kill()
            door.wait()

    # -- commands

    def _deploy(self, command: Command) -> dict[str, Any]:
        given = command.arguments
        size, sha256 = int(_given(given, "bytes")), str(_given(given, "sha256"))
        offer = checked_offer(str(_given(given, "offer")))
        if self.is_at_the_door:
            raise DeviceError("another bundle is at the door of this device", hint="wait for its end")
        former = self._transfer
        if former is not None and former.sha256 != sha256 and time.monotonic() - former.heard_s < _BUSY_S:
            raise DeviceError("another bundle is being sent to this device", hint="wait for its end")
        early = _judged_early(self._state, given)
        if early is not None:
            write_verdict(self._state, offer, {"offer": offer, "sha256": sha256, **early})
            return {"judged": True}
        self._let_go()
        try:
            file = PartialFile(self._state, sha256, size, unpacked_bytes=int(str(given.get("unpacked_bytes", 0))))
        except OSError as error:
            raise DeviceError(f"the bundle cannot be kept: {error.strerror}") from error
        transfer = _Transfer(offer, file, (*self._words, *_flags(given)), sha256)
        arrived = file.chunks.arrived()
        with self._lock:
            self._transfer, self._offer = transfer, offer
        return {"transfer": transfer.id, "arrived": encode_arrived(arrived).hex()}

    def _delivery(self, command: Command) -> dict[str, Any]:
        models = []
        for name in installed_names(self._state):
            models.append({"name": name, **standing_as_dict(model_folder(self._state, name).standing())})
        transfer = self._transfer
        incoming: dict[str, Any] = {"offer": self._offer, "phase": "door" if self.is_at_the_door else "none"}
        if transfer is not None and not self.is_at_the_door:
            chunks = transfer.file.chunks
            incoming |= {"phase": "arriving", "chunks": chunks.count, "of": chunks.total}
        asked = str(command.arguments.get("offer") or "")
        verdict = read_verdict(self._state, asked) if asked else None
        packages = packages_as_dict(self._state)
        return {"incoming": incoming, "verdict": verdict, "models": models, "packages": packages}

    def _rollback(self, command: Command) -> dict[str, Any]:
        name = str(command.arguments.get("name") or "")
        names = installed_names(self._state)
        if not names:
            raise UsageError("nothing came in by `update` here")
        if not name and len(names) > 1:
            raise UsageError(f"which one of {', '.join(names)}?")
        name = name or names[0]
        return {"name": name, "version": go_back(self._state, name).number}

    # -- the door

    def _let_go(self) -> None:
        """Of the file that arrives; what has arrived of it stays on the disk."""
        with self._lock:
            if self._transfer is not None:
                self._transfer.file.close()
            self._transfer = None

    def _begin(self, transfer: _Transfer) -> None:
        self._let_go()
        path = str(transfer.file.path)
        try:
            self._door = start_door(Order(str(self._state), path, transfer.sha256, transfer.offer, transfer.words))
        except OSError as error:
            self._failed(f"the door cannot be started: {error.strerror}")

    def _tell_of_verdict(self) -> None:
        verdict = read_verdict(self._state, self._offer)
        if verdict is None:  # killed, for want of memory perhaps: told, or its host would offer it for ever
            self._failed("the door ended without a verdict")
        elif verdict["state"] not in ("trial", "there"):
            what = f"{verdict['name']} version {verdict['version']}: " if verdict["name"] else ""
            self.say("update_refused", f"{what}{verdict['reason']}")

    def _failed(self, reason: str) -> None:
        self.say("update_refused", reason)
        with suppress(OSError):
            write_verdict(
                self._state, self._offer, failed_verdict(reason, "edgeloop-agent logs on the device says more")
            )


def _judged_early(state: Path, said: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the door would refuse for what the operator says it is, before the line carries any of it; None where it may
    come. The door judges again what has come."""
    name, digest = str(said.get("name", "")), str(said.get("digest", ""))
    folder = _folder_of(state, str(said.get("kind") or ""), name)
    if folder is None or not digest:
        return None
    version = Version(int(said.get("version", 0)), digest)
    offer = Offer(
        version, str(said.get("target", "")), int(said["bytes"]) + int(said.get("unpacked_bytes", 0)),
        may_go_back=bool(said.get("may_go_back")), again=bool(said.get("again")),
    )  # fmt: skip
    verdict = judge_offer(offer, folder.standing(), this_device(state, package_on_trial(state)))
    if isinstance(verdict, Admit):
        return None
    told = {"name": name, "version": version.number, "rehearsal": None}
    if isinstance(verdict, Refuse):
        return {**told, "state": "refused", "reason": verdict.reason, "hint": verdict.hint, "exit_code": 1}
    return {**told, "state": "there", "reason": "", "hint": "", "exit_code": 0}


def _folder_of(state: Path, kind: str, name: str) -> VersionFolder | None:
    """The versions that an offer is one more of; None where there are none yet."""
    if kind in (AGENT, CONFIG):
        base = read_base(state)
        return None if base is None else package_folder(state, base, kind)
    return model_folder(state, name) if name in installed_names(state) else None


def _given(arguments: Mapping[str, Any], name: str) -> Any:
    if arguments.get(name) in (None, ""):
        raise UsageError(f"deploy needs {name!r}")
    return arguments[name]


def _flags(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """What the operator asks of the door."""
    budget = budget_words(arguments.get("max_p95"), arguments.get("max_memory"))
    return ("--again", *budget) if arguments.get("again") else budget
