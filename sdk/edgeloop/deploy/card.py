"""What a device needs of edgeloop, as files below its root: agent, bundle, keys, config and service. Then it starts by
itself.

The layout is the same for every way in (docs/devices.md): the agent under /opt/edgeloop/agent/VERSION with a link
`current`, its state under /var/lib/edgeloop/agent, its settings under /etc/edgeloop.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeloop.bundle import Bundle, TrustStore
from edgeloop.bundle.package import Package
from edgeloop.deploy.agent_settings import changed_config, config_text
from edgeloop.deploy.image.files import FileEntry, LinkEntry
from edgeloop.devices.agent_site import AgentSite, build_agent_site
from edgeloop.devices.connection import DevicePlatform
from edgeloop.devices.install import UNPACK_SCRIPT, site_stream
from edgeloop.errors import DeviceError, RefusedError, UsageError
from edgeloop.targets import TARGETS

AGENTS = "/opt/edgeloop/agent"
STATE = "/var/lib/edgeloop/agent"
CONFIG = "/etc/edgeloop/agent.toml"
TRUSTED = "/etc/edgeloop/trusted"
AGENT_COMMAND = f"/usr/bin/python3 -I {AGENTS}/current/bin/edgeloop-agent"
_FOLDER_OF_VERSIONS = "installed"
# A system that booted before looks for new users only after an update of itself (systemd-update-done.service).
_USERS_AT_EVERY_BOOT = b"[Unit]\nConditionPathExists=|/etc/sysusers.d/edgeloop.conf\n"


@dataclass(frozen=True)
class CardPlan:
    """What is to be installed. settings: keys of the agent's config. config: the
    file that they are put into. keys: public key files that the device is
    to trust. slim: without OpenCV. ca: the collector's; enroll_token: what the device enrolls with at its first run."""

    bundle: Path | None
    keys: tuple[Path, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    config: str | None = None
    slim: bool = False
    ca: Path | None = None
    enroll_token: str = field(default="", repr=False)
    release_root: str | None = None


@dataclass(frozen=True)
class Installation:
    """files: path on the device -> file or link. bytes: of them together. link: what the config names as the bundle, ""
    without one."""

    files: Mapping[str, FileEntry | LinkEntry]
    bytes: int
    agent_version: str
    link: str


def build_installation(
    plan: CardPlan, platform: DevicePlatform, scratch: Path, advance: Callable[[int], None] = lambda _n: None
) -> Installation:
    """Everything as files; copies lie in `scratch` until they were put somewhere. Raises UsageError, DeviceError where
    a wheel is not to be had, RefusedError for a bundle that the device would refuse."""
    if not plan.keys:
        raise UsageError("the device must trust a key", hint="--trust KEY.pub; edgeloop keys shows yours")
    link = ""
    bundle_entries: dict[str, FileEntry | LinkEntry] = {}
    if plan.bundle is not None:
        link, bundle_entries = _bundle_entries(plan.bundle, TrustStore.from_paths(plan.keys), platform.machine)
    site = build_agent_site(platform, slim=plan.slim)
    tree = scratch / "agent"
    unpack_site(site, tree, advance)
    _compile(tree / "site", f"{AGENTS}/{site.version}/site", platform.python)
    files: dict[str, FileEntry | LinkEntry] = {}
    files |= _tree_entries(tree, f"{AGENTS}/{site.version}")
    files[f"{AGENTS}/current"] = LinkEntry(site.version)
    files |= _service_entries(scratch / "service", enabled=plan.bundle is not None)
    files |= bundle_entries
    for number, key in enumerate(plan.keys):
        files[f"{TRUSTED}/{number:02d}-{key.name}"] = FileEntry(key)
    if plan.ca is not None:
        files[f"{STATE}/identity/ca.pem"] = FileEntry(_certificate(plan.ca), 0o600)
    if plan.release_root is not None:  # whom it believes about releases
        files[f"{STATE}/release/root.json"] = FileEntry(plan.release_root.encode())
    if plan.enroll_token:  # not in the config, which everybody on the device can read
        files[f"{STATE}/identity/token"] = FileEntry(f"{plan.enroll_token}\n".encode(), 0o600)
    files[CONFIG] = FileEntry(_config_text(plan, link).encode())
    size = sum(entry.bytes for entry in files.values() if isinstance(entry, FileEntry))
    return Installation(files, size, site.version, link)


def _config_text(plan: CardPlan, link: str) -> str:
    if plan.config is not None:
        return changed_config(plan.config, link, plan.settings, {})
    return config_text({**({"bundle": link} if link else {}), **plan.settings})


def unpack_site(site: AgentSite, folder: Path, advance: Callable[[int], None]) -> None:
    """As a device does it, by the same script. Raises DeviceError."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", UNPACK_SCRIPT, str(folder)], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    try:
        for piece in site_stream(site, advance):
            process.stdin.write(piece)
    except BrokenPipeError:
        pass
    said = process.communicate()[1].decode(errors="replace").strip().splitlines()
    if process.returncode != 0:
        raise DeviceError(f"unpacking the agent: {said[-1] if said else process.returncode}")


# argv: the folder, where it will lie on the device. Not checked against the sources' times, which a card does not keep.
_COMPILE_SCRIPT = """
import compileall, py_compile, sys
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
compileall.compile_dir(sys.argv[1], ddir=sys.argv[2], quiet=2, invalidation_mode=mode)
"""


def _compile(site: Path, there: str, python: tuple[int, int]) -> None:
    """Bytecode beside the sources: the service may write none, and would compile all of it at every start.

    Only a Python of the device's own version can make it; where the host has none, the agent starts more slowly.
    """
    own = sys.version_info[:2] == python
    command = sys.executable if own else shutil.which(f"python{python[0]}.{python[1]}")
    if command is not None:
        subprocess.run([command, "-I", "-c", _COMPILE_SCRIPT, str(site), there], stdout=subprocess.DEVNULL, check=False)


def _certificate(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    if b"-----BEGIN CERTIFICATE-----" not in content:
        raise UsageError(f"{path} is no certificate", hint="edgeloop collect init makes ca.pem")
    return content


# As `edgeloop_agent.delivery.versions` lays versions out; a test holds the two together.
def link_of(state: str, name: str) -> str:
    """What a config names as its bundle: it leads to the version that runs."""
    return f"{state}/{_FOLDER_OF_VERSIONS}/{name}/current.bundle"


def digest_of(content: Bundle | Package) -> str:
    """What tells two with one number apart."""
    return hashlib.sha256(content.raw_manifest).hexdigest()[:16]


def _bundle_entries(path: Path, trust: TrustStore, machine: str) -> tuple[str, dict[str, FileEntry | LinkEntry]]:
    """(the link a config names, files): committed, so that it runs from the first boot on."""
    try:
        bundle = Bundle.open(path, trust=trust)
    except RefusedError as error:
        raise RefusedError(f"the device would refuse it: {error.message}", hint=error.hint) from error
    manifest = bundle.manifest
    target = TARGETS.get(manifest.target)
    if target is not None and target.architecture != machine:
        raise UsageError(
            f"{path} was made for {manifest.target} ({target.architecture}), the image is {machine}",
            hint="edgeloop convert --target ID makes it for this board",
        )
    name = f"{manifest.version}-{digest_of(bundle)}.bundle"
    link = link_of(STATE, manifest.name)
    folder = link.rpartition("/")[0]
    return link, {
        f"{folder}/versions/{name}": FileEntry(path),
        f"{folder}/committed.bundle": LinkEntry(f"versions/{name}"),
        link: LinkEntry(f"versions/{name}"),
    }


def _service_entries(folder: Path, *, enabled: bool) -> dict[str, FileEntry | LinkEntry]:
    """What the agent itself says it needs of systemd, and that it starts at every boot where it is `enabled`."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "edgeloop_agent.cli", "service", "--install", "--root", str(folder)]
    command += ["--command", AGENT_COMMAND, "--config", CONFIG, "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise DeviceError(f"the agent's service: {done.stderr.strip() or done.returncode}")
    entries = _tree_entries(folder, "")
    del entries[CONFIG]  # ours says more
    unit = next(path for path in entries if path.startswith("/etc/systemd/system/"))
    entries["/etc/systemd/system/systemd-sysusers.service.d/edgeloop.conf"] = FileEntry(_USERS_AT_EVERY_BOOT)
    if enabled:
        entries["/etc/systemd/system/multi-user.target.wants/" + unit.rpartition("/")[2]] = LinkEntry(unit)
    return entries


def _tree_entries(folder: Path, prefix: str) -> dict[str, FileEntry | LinkEntry]:
    entries: dict[str, FileEntry | LinkEntry] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            entries[f"{prefix}/{path.relative_to(folder).as_posix()}"] = FileEntry(path, mode)
    return entries
