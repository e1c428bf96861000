"""One poll: what the channel offers this device, fetched if it is new, through the door. Nothing that runs is touched
by it.

    STATE/release/root.json       whom this device trusts about releases: given by flash or deploy, never fetched
                  metadata/       what was verified last
                  channel.json    the channel's description
                  partial/        files that are being fetched: a poll that is cut short goes on here
                  seen.json       what was refused
    STATE/incoming/               a whole file on its way through the door
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.boards import detect_board
from edgeloop.bundle import inspect_bundle
from edgeloop.errors import EXIT_DONE, DeviceError, EdgeloopError, RefusedError, UsageError
from edgeloop.release.channel import AGENT, BUNDLE, CONFIG, Channel, Delta, Offer, agent_platform
from edgeloop.release.cohort import best_offer
from edgeloop_agent.delivery.apply import installed_names, model_folder, package_on_trial
from edgeloop_agent.delivery.here import strangers, userland_machine
from edgeloop_agent.delivery.package_folders import package_folder, read_base
from edgeloop_agent.delivery.update import Standing
from edgeloop_agent.release.deciding import Leave, decide, delta_for
from edgeloop_agent.release.door import Door, Verdict
from edgeloop_agent.release.remembering import Memory

if TYPE_CHECKING:
    from edgeloop_agent.release.repository import Repository

FOLDER = "release"
INCOMING = "incoming"
_LOCK = ".lock"
_COPIES, _SPARE_BYTES = 4, 32 << 20
"""A file on its way is there twice, and unpacked."""


@dataclass(frozen=True)
class Device:
    """Who asks. tags: what the owner calls its kind: "kitchen"."""

    name: str
    state: Path
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """What came of one bundle. state: "current", "waiting" (a trial is going on), "trial", "there", "refused" or
    "failed" (it could not be brought: the next poll tries again). way: "delta" or "full" where a file was fetched."""

    name: str
    state: str
    version: int | None = None
    reason: str = ""
    hint: str = ""
    way: str = ""
    is_news: bool = False
    exit_code: int = EXIT_DONE


@dataclass(frozen=True)
class Pulled:
    """serial: of the channel's description."""

    channel: str
    serial: int
    models: tuple[Model, ...] = field(default_factory=tuple)

    @property
    def exit_code(self) -> int:
        return max((model.exit_code for model in self.models), default=EXIT_DONE)


def pull(
    repository: Callable[[], Repository], channel: str, device: Device, door: Door, *, again: bool = False,
    note: Callable[[str], None] = lambda _line: None,
) -> Pulled:  # fmt: skip
    """repository: opens it, which is the first look at it. again: what was refused here before is tried once more.

    Raises RefusedError for a repository that nobody vouches for, DeviceError where it cannot be reached, UsageError
    without a trusted root or while another poll is going on. What goes wrong about one bundle is in the answer.
    """
    folder = device.state / FOLDER
    with _alone(folder):
        opened = repository()
        offered = opened.channel(channel)
        taking = _Taking(opened, device.state, Memory(folder), door, note)
        models = [_one(name, offered, device, taking, again) for name in installed_names(device.state)]
        packages = [_package(kind, offered, device, taking, again) for kind in (AGENT, CONFIG)]
        return Pulled(channel, offered.serial, (*models, *(each for each in packages if each is not None)))


def _one(name: str, offered: Channel, device: Device, taking: _Taking, again: bool) -> Model:
    if trial := package_on_trial(device.state):  # the door would refuse it, and that would be remembered
        return Model(name, "waiting", reason=f"{trial} is on trial")
    standing = model_folder(device.state, name).standing()
    others = _of_other_targets(offered, name, model_folder(device.state, name).current)
    offer = best_offer(offered, name, device=device.name, device_tags=device.tags, strangers=others)
    return _decided(name, offer, standing, taking, again)


def _package(kind: str, offered: Channel, device: Device, taking: _Taking, again: bool) -> Model | None:
    """The agent itself, or its config; None where nothing of it is offered, or no service looks for it."""
    base = read_base(device.state)
    here = agent_platform(userland_machine(), sys.version_info[:2])
    others = {offer.for_target for offer in offered.offers if offer.kind == AGENT} - {"", userland_machine(), here}
    offer = best_offer(
        offered, None, kind=kind, device=device.name, device_tags=device.tags, strangers=others if kind == AGENT else ()
    )
    if offer is None or base is None:
        return None
    if trial := _any_trial(device.state):
        return Model(offer.name, "waiting", reason=f"{trial} is on trial")
    return _decided(offer.name, offer, package_folder(device.state, base, kind).standing(), taking, again)


def _any_trial(state: Path) -> str:
    """With a version of anything else on trial, the door takes no agent and no config."""
    trials = {name: model_folder(state, name).standing().trial for name in installed_names(state)}
    names = [f"{name} version {trial.version}" for name, trial in trials.items() if trial is not None]
    return names[0] if names else package_on_trial(state)


def _decided(name: str, offer: Offer | None, standing: Standing, taking: _Taking, again: bool) -> Model:
    decision = decide(offer, standing, taking.memory.seen, again=again)
    version = None if offer is None else offer.version
    if isinstance(decision, Leave):
        hint = "edgeloop-agent pull --again tries" if decision.state == "refused" else ""
        return Model(name, decision.state, version, decision.reason, hint)
    try:
        return taking.take(decision.offer)
    except EdgeloopError as error:
        return Model(name, "failed", version, error.message, error.hint or "", is_news=True, exit_code=error.exit_code)


def _of_other_targets(offered: Channel, name: str, current: Path) -> frozenset[str]:
    """Targets whose bundles are not for this device: of another architecture; and where the channel has this name for
    several, all but the one whose bundle runs here."""
    stranger = strangers(detect_board().id, userland_machine())
    targets = frozenset(offer.for_target for offer in offered.offers if offer.name == name)
    if len(targets) < 2 or not current.exists():
        return stranger
    return stranger | targets - {inspect_bundle(current)[0].target}


@dataclass(frozen=True)
class _Taking:
    repository: Repository
    state: Path
    memory: Memory
    door: Door
    note: Callable[[str], None]

    def take(self, offer: Offer) -> Model:
        """Fetch it and hand it to the door. Raises EdgeloopError where it does not come."""
        file = self.state / INCOMING / offer.target_path.rpartition("/")[2]
        try:
            self._check_room(offer)
            file.parent.mkdir(parents=True, exist_ok=True)
            way = self._fetch(offer, file)
            verdict = self.door(file, offer.p95_ms)
            self._remember(offer, verdict)
        except OSError as error:
            raise DeviceError(f"{file}: {error.strerror}", hint="what runs is as it was") from error
        finally:
            file.unlink(missing_ok=True)
        is_refused = verdict.state == "refused"
        return Model(
            offer.name, verdict.state, offer.version, verdict.reason, verdict.hint, way, is_refused, verdict.exit_code
        )

    def _fetch(self, offer: Offer, file: Path) -> str:
        """How it came."""
        if file.is_file() and _sha256(file) == offer.sha256:  # the power failed before it went through the door
            return "kept"
        delta, old = self._delta_for(offer)
        folder = self.state / FOLDER / "partial" / offer.name
        whole, changes = folder / offer.sha256, folder / (delta.from_sha256 if delta else "-")
        for other in folder.iterdir() if folder.is_dir() else ():
            if other not in (whole, changes):
                other.unlink(missing_ok=True)
        if delta is not None and old is not None and self._by_delta(offer, delta, old, changes, file):
            return "delta"
        self.note(f"{offer.name} {offer.version}: fetching {offer.bytes / 1e6:.2f} MB")
        self.repository.bring(offer.target_path, whole, sha256=offer.sha256, most=offer.bytes)
        whole.replace(file)
        return "full"

    def _delta_for(self, offer: Offer) -> tuple[Delta | None, Path | None]:
        if not offer.deltas:
            return None, None
        kept = model_folder(self.state, offer.name)
        here = {_sha256(path): path for path in map(kept.path_of, kept.standing().kept)}
        delta = delta_for(offer, here, self.memory.seen)
        return delta, None if delta is None else here[delta.from_sha256]

    def _by_delta(self, offer: Offer, delta: Delta, old: Path, partial: Path, file: Path) -> bool:
        """False where it led nowhere: the full file is always there."""
        from edgeloop.release.delta import apply_delta
        from edgeloop_agent.release.repository import GoneError

        self.note(f"{offer.name} {offer.version}: fetching {delta.bytes / 1e6:.2f} MB of changes")
        try:
            self.repository.bring(delta.target_path, partial, sha256=None, most=delta.bytes)
            apply_delta(old, partial, file, offer.sha256, max_bytes=offer.bytes)
        except (RefusedError, GoneError) as error:
            self.note(f"{offer.name} {offer.version}: {error.message}; the full file is taken")
            self.memory.useless(offer.sha256)
            return False
        return True

    def _remember(self, offer: Offer, verdict: Verdict) -> None:
        if verdict.state == "refused":
            self.memory.refused(offer.sha256, verdict.reason)
        base = None if offer.kind == BUNDLE else read_base(self.state)
        folder = model_folder(self.state, offer.name) if base is None else package_folder(self.state, base, offer.kind)
        running = folder.standing().running
        if verdict.state == "trial" and running is not None:
            self.memory.tried(offer.sha256, running.digest)

    def _check_room(self, offer: Offer) -> None:
        """More than the door wants: what it refuses is not asked for again, and a full disk can be emptied."""
        needed = _COPIES * offer.bytes + _SPARE_BYTES
        if shutil.disk_usage(self.state).free < needed:
            raise DeviceError(f"{needed / 1e6:.0f} MB must be free on the disk to bring {offer.name} {offer.version}")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Raises UsageError while another poll is going on."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise DeviceError(
            f"{folder}: {error.strerror}", hint="--state DIR names a folder that can be written"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another poll is going on in {folder}", hint="wait for its end") from None
        yield
    finally:
        os.close(descriptor)
