"""What is installed on a device: wheels for its architecture and Python, fetched on the host, and our own code.

The device needs no pip and no network. Wheels are zip files, so they travel as they are and are unpacked there.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edgeloop import paths
from edgeloop.devices.connection import DevicePlatform
from edgeloop.errors import DeviceError, UsageError
from edgeloop.version import VERSION

DEVICE_EXTRAS = ("agent", "serial", "mqtt", "release")
_PACKAGES = ("edgeloop", "edgeloop_agent")
_HOST_ONLY = (
    *(f"edgeloop/{name}/" for name in ("cli", "deploy", "devices")),
    *(f"edgeloop/telemetry/{n}/" for n in ("alerts", "collector", "export", "fleet", "reading", "simulation", "store")),
)
_FIXED_DATE = (2020, 1, 1, 0, 0, 0)
_NEWEST_MANYLINUX_MINOR = 34
# pip matches platform tags exactly, so every tag that the device's glibc satisfies has to be named.
_LEGACY_TAGS = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True)
class AgentSite:
    """Files to unpack into one folder: third-party wheels and `own`, a zip of edgeloop's device code."""

    version: str
    wheels: tuple[Path, ...]
    own: bytes

    @property
    def transfer_bytes(self) -> int:
        return len(self.own) + sum(w.stat().st_size for w in self.wheels)


def build_agent_site(platform: DevicePlatform, *, slim: bool = False) -> AgentSite:
    """Fetch (or take from the cache) the wheels for a device. Raises DeviceError when one is not to be had.

    slim: without OpenCV, half of the whole: enough for arrays, sound and sensor lines, not for pictures.
    """
    if platform.machine == "armv7l":
        raise UsageError(
            "installing on 32-bit Arm is not there yet: LiteRT has no wheel for it",
            hint="use the 64-bit Raspberry Pi OS",
        )
    wheels = _fetch_wheels(platform, slim)
    own = pack_own_code()
    digest = hashlib.sha256(own)
    for wheel in wheels:
        digest.update(wheel.name.encode())
    return AgentSite(f"{VERSION}+{digest.hexdigest()[:10]}", wheels, own)


def platform_tags(machine: str, glibc: tuple[int, int]) -> list[str]:
    """All manylinux tags a device with this glibc can use, newest first (PEP 600 and its legacy aliases)."""
    newest = min(glibc[1], _NEWEST_MANYLINUX_MINOR) if glibc[0] == 2 else 17
    tags: list[str] = []
    for minor in range(newest, 4, -1):
        tags.append(f"manylinux_2_{minor}_{machine}")
        if minor in _LEGACY_TAGS and (machine != "aarch64" or minor == 17):
            tags.append(f"{_LEGACY_TAGS[minor]}_{machine}")
    return tags


def device_requirements(*, slim: bool = False) -> list[str]:
    """What a device needs (DEVICE_EXTRAS), read from the installed distribution's own metadata; `slim`: less OpenCV."""
    from packaging.requirements import Requirement

    found: list[str] = []
    for text in metadata.requires("edgeloop") or []:
        requirement = Requirement(text)
        extras = ("", *DEVICE_EXTRAS)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            requirement.marker = None
            if not slim or not requirement.name.startswith("opencv"):
                found.append(str(requirement))
    return sorted(set(found))


def runtime_constraints(platform: DevicePlatform) -> list[str]:
    """LiteRT 2.2 and newer need glibc 2.34, though their wheels claim 2.27; 2.1 needs 2.30."""
    if platform.glibc < (2, 30):
        raise DeviceError(
            f"glibc {platform.glibc[0]}.{platform.glibc[1]} is too old for LiteRT (2.30 at least)",
            hint="Raspberry Pi OS Bookworm or Debian 12 will do",
        )
    return ["ai-edge-litert<2.2"] if platform.glibc < (2, 34) else []


def pack_own_code() -> bytes:
    """A zip of edgeloop's and edgeloop_agent's device modules, the same bytes for the same code."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _own_files():
            info = zipfile.ZipInfo(name, _FIXED_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def _own_files() -> Iterator[tuple[str, bytes]]:
    from importlib.util import find_spec

    for package in _PACKAGES:
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise DeviceError(f"package {package} is not installed here")
        root = Path(next(iter(spec.submodule_search_locations)))
        for path in sorted((*root.rglob("*.py"), *root.rglob("*.service"))):
            name = f"{package}/{path.relative_to(root).as_posix()}"
            if not name.startswith(_HOST_ONLY):
                yield name, path.read_bytes()


def _fetch_wheels(platform: DevicePlatform, slim: bool) -> tuple[Path, ...]:
    requirements = [*device_requirements(slim=slim), *runtime_constraints(platform)]
    python = f"{platform.python[0]}{platform.python[1]}"
    key = hashlib.sha256("\n".join([*requirements, VERSION]).encode()).hexdigest()[:10]
    glibc = f"{platform.glibc[0]}.{platform.glibc[1]}"
    folder = paths.cache_dir() / "wheels" / f"{platform.machine}-cp{python}-glibc{glibc}-{key}"
    complete = folder / "complete"
    if not complete.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, "--dest", str(folder)]
        for tag in platform_tags(platform.machine, platform.glibc):
            command += ["--platform", tag]
        done = subprocess.run([*command, *requirements], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            reason = errors[-1] if errors else f"pip download exited with {done.returncode}"
            raise DeviceError(
                f"wheels for {platform.machine}, Python {platform.python[0]}.{platform.python[1]}: {reason}",
                hint="the host needs a network connection the first time, and wheels for that Python and glibc",
            )
        complete.touch()
    return tuple(sorted(folder.glob("*.whl")))
