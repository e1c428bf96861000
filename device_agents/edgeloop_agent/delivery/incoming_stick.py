"""Bundles that a stick brings: taken in through the door once each, with the verdict written back on the stick.

A thread of its own, as a stick may answer slowly or never; the door is a process of its own. What was taken in is known
by the verdicts in the state folder: a stick that comes again, or was pulled too early, is only answered.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgeloop.errors import EXIT_DEVICE, EXIT_USAGE, DataError, EdgeloopError
from edgeloop.telemetry.delivery.carried_bundles import (
    BUNDLE,
    BUNDLES,
    CarriedOffer,
    offers_on,
    pieces_of,
    read_verdict_on,
    write_verdict_on,
)
from edgeloop_agent.delivery.apply import model_folder
from edgeloop_agent.delivery.incoming_door import Order, budget_words, start_door
from edgeloop_agent.delivery.incoming_files import INCOMING, check_room, forget, read_verdict, remove_verdict
from edgeloop_agent.delivery.package_folders import AGENT, CONFIG
from edgeloop_agent.delivery.shown import packages_as_dict, standing_as_dict

LOOK_EVERY_S = 5.0
_AGAIN_AFTER_S = 60.0
_CARRIED = ".carried"
_ENDING_S = 0.5
_TRANSIENT = (EXIT_USAGE, EXIT_DEVICE)
"""Exit codes that say nothing about the bundle: another update goes on, the disk is full."""


class StickWatch:
    """`root` as in `--telemetry file://ROOT`; `look` is for its own thread, the others are for another one."""

    def __init__(self, root: Path, device: str, state: Path, words: tuple[str, ...]) -> None:
        """words: see `incoming.door_words`."""
        self._root, self._device, self._state, self._words = root, device, state, words
        self._said: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._known: set[str] = set()
        self._not_before_s: dict[str, float] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look now and then; nothing where that goes on already."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="stick", daemon=True)
            self._thread.start()

    def heard(self) -> list[tuple[str, str]]:
        """Events since the last call, (kind, detail)."""
        found = []
        with suppress(queue.Empty):
            while True:
                found.append(self._said.get_nowait())
        return found

    def close(self) -> None:
        """A door that is at work is given a moment; what was not said on the stick is said at the next start."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(_ENDING_S)

    def look(self) -> None:
        """Take in what is new, answer what is known. Nothing is raised for what a stick does."""
        try:
            for offer in offers_on(self._root):
                if isinstance(offer, DataError):
                    self._say_once("stick", offer.message)
                elif offer.is_for(self._device):
                    self._settle(offer)
        except OSError as error:
            if self._root.is_dir():  # else it was pulled, which is what sticks are for
                self._say_once("stick", f"{self._root}: {error.strerror}")

    def _watch(self) -> None:
        while not self._closing.is_set():
            try:
                self.look()
            except Exception as error:  # a defect is no reason to stop looking, nor to take the agent down
                self._say_once("stick", f"{type(error).__name__}: {error}")
            self._closing.wait(LOOK_EVERY_S)

    def _settle(self, offer: CarriedOffer) -> None:
        verdict = read_verdict(self._state, offer.id)
        if verdict is None:
            if time.monotonic() < self._not_before_s.get(offer.id, 0.0):
                return
            verdict = self._taken_in(offer)
        told = told_verdict(offer, verdict, self._standing(offer))
        if read_verdict_on(self._root, self._device, offer.id) != told:
            write_verdict_on(self._root, self._device, offer.id, told)

    def _taken_in(self, offer: CarriedOffer) -> dict[str, Any]:
        path = self._state / INCOMING / f"{offer.id}{_CARRIED}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            check_room(path.parent, 2 * offer.bytes + offer.unpacked_bytes)
            with path.open("wb") as file:
                for piece in pieces_of(self._root / BUNDLES / f"{offer.stem}{BUNDLE}", offer.bytes):
                    file.write(piece)
            words = (*self._words, *budget_words(offer.max_p95_ms, offer.max_memory_mib))
            door = start_door(Order(str(self._state), str(path), offer.sha256, offer.id, words))
            door.wait()
        except EdgeloopError as error:
            forget(path)
            return self._later(offer, error.message, error.hint or "", error.exit_code)
        except OSError:
            forget(path)
            raise
        verdict = read_verdict(self._state, offer.id)
        if verdict is None:
            return self._later(offer, "the door ended without a verdict", "", EXIT_DEVICE)
        if verdict["state"] == "failed" and verdict["exit_code"] in _TRANSIENT:
            remove_verdict(self._state, offer.id)
            return self._later(offer, verdict["reason"], verdict["hint"], verdict["exit_code"])
        if verdict["state"] not in ("trial", "there"):
            self._say_once("update_refused", f"{offer.name} version {offer.version}: {verdict['reason']}")
        return verdict

    def _later(self, offer: CarriedOffer, reason: str, hint: str, exit_code: int) -> dict[str, Any]:
        self._not_before_s[offer.id] = time.monotonic() + _AGAIN_AFTER_S
        self._say_once("stick", f"{offer.name} version {offer.version} is not taken in yet: {reason}")
        return {"state": "failed", "reason": reason, "hint": hint, "exit_code": exit_code}

    def _standing(self, offer: CarriedOffer) -> dict[str, Any]:
        if offer.kind in (AGENT, CONFIG):
            return dict((packages_as_dict(self._state) or {}).get(offer.kind) or {})
        if not offer.name or offer.name.startswith(".") or "/" in offer.name:
            return {}
        return standing_as_dict(model_folder(self._state, offer.name).standing())

    def _say_once(self, kind: str, detail: str) -> None:
        if detail not in self._known:
            self._known.add(detail)
            self._said.put((kind, detail))


def told_verdict(offer: CarriedOffer, verdict: Mapping[str, Any], standing: Mapping[str, Any]) -> dict[str, Any]:
    """What is written on the stick: what the door said, and what came of it after. state: "trial", "committed",
    "rolled back", "refused" or "failed"."""
    told = {"name": offer.name, "version": offer.version, "state": verdict["state"], "reason": verdict["reason"]}
    told |= {"hint": verdict.get("hint", ""), "exit_code": verdict["exit_code"]}
    if verdict["state"] not in ("trial", "there"):
        return told
    failed, committed = standing.get("failed") or {}, standing.get("committed") or {}
    if offer.digest in failed:
        return {**told, "state": "rolled back", "reason": failed[offer.digest], "exit_code": 1}
    return {**told, "state": "committed" if committed.get("digest") == offer.digest else "trial"}
