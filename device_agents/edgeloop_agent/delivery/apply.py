"""Through the door: verify, keep, rehearse, switch. What decides is `update`; this does it.

For any process of the device that may write to the state folder, while the agent runs or not; a lock lets one in at a
time. The agent itself takes it from there, see `watch`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from edgeloop.bundle import StagedBundle, TrustStore
from edgeloop.bundle.reader import Bundle
from edgeloop.errors import DeviceError, UsageError
from edgeloop.runtime.delegates import parse_delegate
from edgeloop_agent.autotune.child import ChildGoneError, MeasuringChild
from edgeloop_agent.delivery.here import this_device
from edgeloop_agent.delivery.package_folders import AGENT, CONFIG, package_folder, read_base
from edgeloop_agent.delivery.update import (
    Budget,
    IsThere,
    Offer,
    Refuse,
    Rehearsal,
    Version,
    back_to,
    judge_offer,
    judge_rehearsal,
)
from edgeloop_agent.delivery.versions import DIGEST_CHARS, INSTALLED, VersionFolder
from edgeloop_agent.service.statedir import BUNDLES

_LOCK = ".door"
_PIECE_BYTES = 1 << 20

Rehearse = Callable[[StagedBundle], Rehearsal]


@dataclass(frozen=True)
class Admitted:
    """What came of an offer. state: "trial" (it runs from the next start on), "there" (it ran already) or "refused"
    with a `reason` and a `hint`. link: what a config names as its bundle. rehearsal: None where it came to none.
    kind: "bundle", "agent" or "config"."""

    state: str
    name: str
    version: int
    link: Path
    reason: str = ""
    hint: str = ""
    rehearsal: Rehearsal | None = None
    kind: str = "bundle"


def model_folder(state: Path, name: str) -> VersionFolder:
    """The versions of the bundles with this name."""
    return VersionFolder(state / INSTALLED / name)


def version_of(bundle: Bundle) -> Version:
    """Number and digest of a bundle: two with the same number are told apart by what was signed."""
    return Version(bundle.manifest.version, hashlib.sha256(bundle.raw_manifest).hexdigest()[:DIGEST_CHARS])


def offer_file(
    path: Path, state: Path, *, trust: TrustStore, rehearse: Rehearse, budget: Budget, device: str, again: bool = False,
    note: Callable[[str], None] = lambda _line: None,
) -> Admitted:  # fmt: skip
    """Take a file in, whichever of the three kinds it is: a bundle (see `offer_bundle`), a version of the agent or a
    config (see `packages.offer_package`). The file itself says which."""
    from edgeloop.bundle.package import is_package

    if is_package(path):
        from edgeloop_agent.delivery.packages import offer_package

        return offer_package(path, state, trust=trust, device=device, again=again, note=note)
    return offer_bundle(
        path, state, trust=trust, rehearse=rehearse, budget=budget, device=device, again=again, note=note
    )


def offer_bundle(
    path: Path, state: Path, *, trust: TrustStore, rehearse: Rehearse, budget: Budget, device: str, again: bool = False,
    note: Callable[[str], None] = lambda _line: None,
) -> Admitted:  # fmt: skip
    """Take a bundle file in. Nothing that runs is touched before everything else held.

    device: this one's name, for exceptions; note: gets a line for people per step. Raises RefusedError for a file that
    no trusted key signed or that is damaged, UsageError where there is none, DeviceError where the disk cannot be
    written.
    """
    with door(state):
        bundle = Bundle.open(path, trust=trust)
        manifest, version = bundle.manifest, version_of(bundle)
        note(f"{manifest.name} version {version}: signed by {bundle.signed_by}, all files are whole")
        folder = model_folder(state, manifest.name)
        standing = folder.settled_standing()

        def refused(verdict: Refuse, rehearsal: Rehearsal | None = None) -> Admitted:
            return Admitted(
                "refused", manifest.name, version.number, folder.current, verdict.reason, verdict.hint, rehearsal
            )

        size = path.stat().st_size + sum(entry.bytes for entry in manifest.members().values())
        exemption = bundle.exemption(device, trust=trust)
        offer = Offer(version, manifest.target, size, exemption.holds, exemption.reason, again)
        verdict = judge_offer(offer, standing, this_device(state, package_on_trial(state)))
        if isinstance(verdict, IsThere):
            return Admitted("there", manifest.name, version.number, folder.current)
        if isinstance(verdict, Refuse):
            return refused(verdict)
        try:
            kept = folder.take_in(version, pieces_of(path))
            # Read again from where it will run: what was verified a moment ago was another file.
            staged = _same(Bundle.open(kept, trust=trust), version).stage(state / BUNDLES)
            note("rehearsal: golden samples, latency and memory, beside what runs")
            rehearsal = rehearse(staged)
            judged = judge_rehearsal(rehearsal, budget)
            if isinstance(judged, Refuse):
                # What a budget of this call forbids may be asked for again with another one.
                folder.refuse(version, judged.reason if rehearsal.failed else "")
                return refused(judged, rehearsal)
            folder.begin_trial(version)
        except OSError as error:
            raise DeviceError(f"{folder.folder}: {error.strerror}", hint="what runs is as it was") from error
        return Admitted("trial", manifest.name, version.number, folder.current, rehearsal=rehearsal)


def only_rehearse(path: Path, state: Path, *, trust: TrustStore, rehearse: Rehearse, budget: Budget) -> Admitted:
    """How a bundle would do here; nothing is taken in. state: "rehearsed" or "refused". Raises as `offer_bundle`."""
    bundle = Bundle.open(path, trust=trust)
    rehearsal = rehearse(bundle.stage(state / BUNDLES))
    judged = judge_rehearsal(rehearsal, budget)
    name, number = bundle.manifest.name, bundle.manifest.version
    if isinstance(judged, Refuse):
        return Admitted("refused", name, number, path, judged.reason, judged.hint, rehearsal)
    return Admitted("rehearsed", name, number, path, rehearsal=rehearsal)


def go_back(state: Path, name: str) -> Version:
    """Let the version before the one that runs run from the next start on. Raises UsageError where there is none."""
    with door(state):
        folder = model_folder(state, name)
        target = back_to(folder.settled_standing())
        if isinstance(target, Refuse):
            known = ", ".join(installed_names(state)) or "nothing"
            is_tried = folder.standing().trial is not None
            hint = "edgeloop-agent rollback --trial: nothing runs then" if is_tried else ""
            raise UsageError(f"{name}: {target.reason}", hint=hint or f"installed through `update` is: {known}")
        try:
            folder.go_back_to(target)
        except OSError as error:
            raise DeviceError(f"{folder.folder}: {error.strerror}") from error
        return target


def end_trial(state: Path, name: str) -> Version | None:
    """What was committed runs from the next start on instead of what is on trial; None: nothing does. Raises UsageError
    where nothing is on trial."""
    with door(state):
        folder = model_folder(state, name)
        try:
            if not folder.end_trial():
                raise UsageError(f"{name}: nothing is on trial", hint="edgeloop-agent versions")
        except OSError as error:
            raise DeviceError(f"{folder.folder}: {error.strerror}") from error
        return folder.standing().running


def package_on_trial(state: Path) -> str:
    """ "agent version 5" where that is on trial here, else ""."""
    base = read_base(state)
    if base is None:
        return ""
    for kind in (AGENT, CONFIG):
        trial = package_folder(state, base, kind).standing().trial
        if trial is not None:
            return f"{kind} version {trial.version}"
    return ""


def installed_names(state: Path) -> list[str]:
    """Names of the bundles that have versions here."""
    folder = state / INSTALLED
    return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []


Borrow = Callable[[], AbstractContextManager[bool]]
"""Whether the running models let go of an accelerator for as long, see `lending`."""


def rehearse_in_a_child(
    staged: StagedBundle, *, delegates: Sequence[str], variant: str | None, threads: int, seconds: float,
    patience_s: float, borrow: Borrow = lambda: contextlib.nullcontext(False),
) -> Rehearsal:  # fmt: skip
    """Run it in a process of its own, which may crash or hang: the first delegate of the order that works is what will
    run it. Golden samples first; p95 over `seconds` of inferences; memory of a process with nothing else in it.
    patience_s: for it to load; what hangs is noticed after so long."""
    failures, hint = [], ""
    for delegate in delegates:
        done = _rehearse_on(delegate, staged, variant, threads, seconds, patience_s)
        if done.failed and parse_delegate(delegate).library:
            with borrow() as is_lent:
                done = _rehearse_on(delegate, staged, variant, threads, seconds, patience_s) if is_lent else done
        if not done.failed:
            return done
        failures.append(done.failed if done.failed.startswith(f"{delegate} ") else f"{delegate}: {done.failed}")
        hint = hint or done.hint
    return Rehearsal(failed="; ".join(failures) or "no delegate to run it on", hint=hint)


def _rehearse_on(
    delegate: str, staged: StagedBundle, variant: str | None, threads: int, seconds: float, patience_s: float
) -> Rehearsal:
    name = staged.manifest.variant_for(delegate, variant).name
    child = MeasuringChild(staged.path)
    order = {"open": 0, "variant": name, "delegate": delegate, "threads": threads, "whole": True}
    try:
        opened = child.ask(order, patience_s)
        ran = opened if "failed" in opened else child.ask({"run": 0, "for_s": seconds}, seconds + patience_s)
    except ChildGoneError as gone:
        ran = {"failed": str(gone)}
    finally:
        child.end()
    if "failed" in ran:
        return Rehearsal(failed=str(ran["failed"]), hint=str(ran.get("hint", "")))
    times_ns = ran["times_ns"]
    return Rehearsal(str(opened["ran"]), len(times_ns), _p95_ms(times_ns), int(opened["rss_bytes"]))


def _p95_ms(times_ns: Sequence[int]) -> float:
    ordered = sorted(times_ns)
    return ordered[max(0, -(-95 * len(ordered) // 100) - 1)] / 1e6


def _same(bundle: Bundle, version: Version) -> Bundle:
    if version_of(bundle) != version:
        raise OSError(0, "the file changed while it was taken in")
    return bundle


def pieces_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


@contextlib.contextmanager
def door(state: Path) -> Iterator[None]:
    """Raises UsageError while another update goes through."""
    try:
        (state / INSTALLED).mkdir(parents=True, exist_ok=True)
        descriptor = os.open(state / INSTALLED / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise DeviceError(
            f"{state}: {error.strerror}", hint="--state DIR names a folder that can be written"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another update is going on in {state}", hint="wait for its end") from None
        yield
    finally:
        os.close(descriptor)
