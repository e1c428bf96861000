"""Through the door: a version of the agent, or a config. As with a bundle, nothing that runs is touched before all
held; who switches to it, and back, is `launching`."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeloop.bundle import TrustStore
from edgeloop.bundle.package import AGENT, Package
from edgeloop.errors import DeviceError, EdgeloopError, RefusedError, UsageError
from edgeloop_agent.delivery.apply import Admitted, door, installed_names, model_folder, package_on_trial
from edgeloop_agent.delivery.here import this_device, userland_machine
from edgeloop_agent.delivery.package_folders import (
    LAUNCHER,
    AgentFolder,
    Base,
    config_folder,
    is_changed,
    package_folder,
    read_base,
)
from edgeloop_agent.delivery.update import (
    Admit,
    IsThere,
    Offer,
    Platform,
    Refuse,
    Rehearsal,
    Version,
    judge_offer,
    judge_platform,
)
from edgeloop_agent.delivery.versions import DIGEST_CHARS, VersionFolder

_START_S, _REHEARSAL_S = 120.0, 600.0
_MAX_FILES = 50_000
_BASE_KEYS = ("state", "trust", "operators")
"""Stay as root set them: where the agent keeps what it has, and whom it believes."""

Note = Callable[[str], None]


def offer_package(
    path: Path, state: Path, *, trust: TrustStore, device: str, again: bool = False, note: Note = lambda _line: None
) -> Admitted:
    """Take an agent or a config in. Raises as `apply.offer_bundle`; UsageError where no service looks for them."""
    with door(state):
        package = Package.open(path, trust=trust)
        manifest = package.manifest
        version = Version(manifest.version, hashlib.sha256(package.raw_manifest).hexdigest()[:DIGEST_CHARS])
        note(f"{manifest.kind} {manifest.name} version {version}: signed by {package.signed_by}")
        base = read_base(state)
        if base is None:
            raise UsageError(
                f"no service that looks for agents and configs has run on {state}",
                hint="sudo edgeloop-agent service --install, then restart it; or edgeloop deploy",
            )
        if is_changed(base):
            raise UsageError(
                f"{base.config} was changed since the agent started with it",
                hint="sudo systemctl reload edgeloop-agent, then try again",
            )
        folder = package_folder(state, base, manifest.kind)

        def refused(verdict: Refuse, rehearsal: Rehearsal | None = None) -> Admitted:
            return _admitted("refused", package, folder, verdict.reason, verdict.hint, rehearsal)

        exemption = package.exemption(device, trust=trust)
        size = manifest.member.bytes + manifest.unpacked_bytes
        offer = Offer(version, "", size, exemption.holds, exemption.reason, again)
        others = _other_trials(state, manifest.kind, folder)
        verdict = judge_offer(offer, folder.settled_standing(), this_device(state, others))
        if isinstance(verdict, Admit) and manifest.kind == AGENT:
            verdict = judge_platform(Platform(manifest.machine, manifest.python, manifest.glibc), _platform())
        if isinstance(verdict, IsThere):
            return _admitted("there", package, folder)
        if isinstance(verdict, Refuse):
            return refused(verdict)
        try:
            if isinstance(folder, AgentFolder):
                failed = _agent_in(package, version, folder, state, base, note)
                content = package.raw_manifest
            else:
                content = package.read()
                failed = _objection(content, Path(base.config), state)
            if failed:
                folder.refuse(version, failed)
                if isinstance(folder, AgentFolder):
                    folder.tidy()
                return refused(Refuse(failed), Rehearsal(failed=failed))
            folder.take_in(version, [content])
            folder.begin_trial(version)
        except OSError as error:
            raise DeviceError(f"{folder.folder}: {error.strerror}", hint="what runs is as it was") from error
        return _admitted("trial", package, folder)


def go_back(state: Path, kind: str) -> Version | None:
    """Let the version before run from the next start on; None: what root installed does. Raises UsageError."""
    with door(state):
        base = read_base(state)
        folder = None if base is None else package_folder(state, base, kind)
        standing = None if folder is None else folder.settled_standing()
        if folder is None or standing is None or standing.running is None:
            raise UsageError(f"the {kind} is the one that was installed: there is none to go back to")
        before = [v for v in standing.kept if v.digest in standing.well and v.number < standing.running.number]
        on_trial = standing.running != standing.committed
        try:
            if on_trial:
                folder.end_trial()
            elif before:
                folder.go_back_to(before[-1])
            else:
                folder.leave()
        except OSError as error:
            raise DeviceError(f"{folder.folder}: {error.strerror}") from error
        return folder.standing().running


def _admitted(
    state: str, package: Package, folder: VersionFolder, reason: str = "", hint: str = "",
    rehearsal: Rehearsal | None = None,
) -> Admitted:  # fmt: skip
    manifest = package.manifest
    return Admitted(state, manifest.name, manifest.version, folder.current, reason, hint, rehearsal, manifest.kind)


def _other_trials(state: Path, kind: str, folder: VersionFolder) -> str:
    for name in installed_names(state):
        trial = model_folder(state, name).standing().trial
        if trial is not None:
            return f"{name} version {trial.version}"
    other = package_on_trial(state)
    return "" if other.startswith(f"{kind} ") and folder.standing().trial is not None else other


def _agent_in(package: Package, version: Version, folder: AgentFolder, state: Path, base: Base, note: Note) -> str:
    """Unpack and rehearse it: why it cannot be, "" where it can. Raises OSError, RefusedError."""
    tree = folder.plant(version, lambda fresh: unpack(package, fresh))
    running = config_folder(state, base).standing().running
    config = Path(base.config) if running is None else config_folder(state, base).path_of(running)
    note("rehearsal: does it start, and run the bundles that are here")
    return _rehearse_agent(tree, config)


def unpack(package: Package, folder: Path) -> None:
    """An agent's tree. Raises RefusedError for one that is not as signed or holds what no agent does, OSError."""
    packed = folder / ".tree.zip"
    with packed.open("wb") as file:
        for piece in package.chunks():
            file.write(piece)
    left = package.manifest.unpacked_bytes
    try:
        with zipfile.ZipFile(packed) as archive:
            members = archive.infolist()
            if len(members) > _MAX_FILES or sum(member.file_size for member in members) > left:
                raise RefusedError(f"{package.path.name}: its tree is larger than it says")
            for member in members:
                parts = member.filename.split("/")
                if member.filename.startswith("/") or ".." in parts or not all(parts):
                    raise RefusedError(f"{package.path.name}: {member.filename!r} is no name in a tree")
                archive.extract(member, folder)
    except zipfile.BadZipFile as error:
        raise RefusedError(f"{package.path.name}: its tree is damaged") from error
    packed.unlink()
    launcher = folder / LAUNCHER
    if not launcher.is_file():
        raise RefusedError(f"{package.path.name}: its tree has no {LAUNCHER}")
    launcher.chmod(0o755)


def _rehearse_agent(tree: Path, config: Path) -> str:
    """Why this agent cannot do here what the one that runs does; "" where it can."""
    agent = [sys.executable, "-I", str(tree / LAUNCHER)]
    if failed := _run([*agent, "--version"], _START_S):
        return f"it does not start: {failed}"
    try:
        from edgeloop_agent.config_reading import load_configs

        bundles = sorted({config.bundle for config in load_configs({}, config)})
    except EdgeloopError:  # a config without a bundle: nothing runs here yet
        bundles = []
    for bundle in bundles:
        words = ["update", str(bundle), "--rehearse", "--rehearsal", "0.5", "--config", str(config), "--json"]
        if bundle.exists() and (failed := _run([*agent, *words], _REHEARSAL_S)):
            return f"it does not run {bundle.name}: {failed}"
    return ""


def _run(command: list[str], timeout_s: float) -> str:
    """Why it failed; "" where it did not."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return f"nothing came of it within {timeout_s:.0f} s"
    if done.returncode == 0:
        return ""
    if done.returncode < 0:
        return f"crashed (signal {-done.returncode})"
    return _said(done.stdout) or (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300]


def _said(stdout: str) -> str:
    try:
        answer: dict[str, Any] = json.loads(stdout)
        return str(answer["error"]["message"] if "error" in answer else answer["reason"])
    except (ValueError, KeyError, TypeError):
        return ""


def _objection(content: bytes, base: Path, state: Path) -> str:
    """Why an agent cannot run with this config; "" where it can."""
    import tempfile

    from edgeloop_agent.config_reading import load_configs
    from edgeloop_agent.run import check_runnable

    with tempfile.NamedTemporaryFile(suffix=".toml", dir=state) as file:
        file.write(content)
        file.flush()
        try:
            fresh = load_configs({}, Path(file.name))
            before = _settings(base)
            for key in _BASE_KEYS:
                if _settings(Path(file.name)).get(key) != before.get(key):
                    return f"'{key}' is for who has root to change: it stays as {base} has it"
            for config in fresh:
                check_runnable(config)
        except EdgeloopError as error:
            return error.message.replace(file.name, "agent.toml")
    return ""


def _settings(path: Path) -> dict[str, Any]:
    from edgeloop.tomlfile import read_toml

    return read_toml(path, "agent config")


def _platform() -> Platform:
    glibc = [int(part) for part in platform.libc_ver()[1].split(".")[:2] if part.isdigit()]
    return Platform(userland_machine(), sys.version_info[:2], (glibc[0], glibc[1]) if len(glibc) == 2 else (0, 0))
