"""A version of the agent, or a config, as a signed file for `edgeloop-agent update`. Host only.

The agent is put together here as `deploy` and `flash` do it, and travels as one zip of its tree: members in order,
without times, so that what two versions have in common has the same bytes in both.
"""

from __future__ import annotations

import io
import os
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.bundle.files import check_can_write
from edgeloop.bundle.limits import NAME_PATTERN
from edgeloop.bundle.npz import fixed_zip_info
from edgeloop.bundle.package import AGENT, CONFIG, MEMBERS, PackageManifest, entry_of, write_package
from edgeloop.bundle.versions import claim_version
from edgeloop.deploy.card import unpack_site
from edgeloop.devices.agent_site import build_agent_site
from edgeloop.devices.connection import DevicePlatform
from edgeloop.errors import UsageError
from edgeloop.paths import missing_hint
from edgeloop.tomlfile import parse_toml
from edgeloop.version import VERSION

if TYPE_CHECKING:
    from edgeloop.bundle.keys import SigningKey

AGENT_NAME, CONFIG_NAME = "edgeloop-agent", "edgeloop-config"


@dataclass(frozen=True)
class Packed:
    """What was written where."""

    path: Path
    manifest: PackageManifest


def pack_agent(
    machine: str, python: tuple[int, int], glibc: tuple[int, int], key: SigningKey | None, *,
    version: int | None = None, output: Path | None = None, slim: bool = False,
    advance: Callable[[int], None] = lambda _count: None,
) -> Packed:  # fmt: skip
    """This edgeloop's agent with all it needs, for devices like that. Raises DeviceError where a wheel is not to be
    had, UsageError where it cannot be written."""
    if output is not None:
        check_can_write(output, "output")
    site = build_agent_site(DevicePlatform(machine, python, glibc, "", "", False, "/"), slim=slim)
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "agent"
        unpack_site(site, tree, advance)
        content, unpacked = pack_tree(tree)
    number = claim_version(AGENT_NAME, version)
    manifest = PackageManifest(
        AGENT, AGENT_NAME, number, entry_of(content), machine, python, glibc, site.version, unpacked, _provenance()
    )
    path = output or Path(f"{AGENT_NAME}-{number}-{machine}.agent")
    write_package(path, manifest, content, key)
    return Packed(path, manifest)


def pack_config(
    config: Path, key: SigningKey | None, *, name: str = CONFIG_NAME, version: int | None = None,
    output: Path | None = None,
) -> Packed:  # fmt: skip
    """A config file. Whether a device can run with it, the device says. Raises ConfigError for no TOML, UsageError."""
    if not NAME_PATTERN.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a config", hint="letters, digits, '.', '_' and '-', at most 64")
    try:
        content = config.read_bytes()
    except OSError as error:
        raise UsageError(f"{config}: {error.strerror}", hint=missing_hint(config)) from error
    if len(content) > MEMBERS[CONFIG][1]:
        raise UsageError(f"{config} is too large for a config")
    try:
        parse_toml(content.decode(), f"agent config {config}")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{config} is no text, so no config", hint="the agent.toml that edgeloop-agent runs"
        ) from error
    if output is not None:
        check_can_write(output, "output")
    number = claim_version(name, version)
    manifest = PackageManifest(CONFIG, name, number, entry_of(content), provenance=_provenance())
    path = output or Path(f"{name}-{number}.config")
    write_package(path, manifest, content, key)
    return Packed(path, manifest)


def pack_tree(tree: Path) -> tuple[bytes, int]:
    """(a zip of all files below, their bytes). Same files, same zip."""
    buffer, unpacked = io.BytesIO(), 0
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in tree.rglob("*") if p.is_file() and not p.is_symlink()):
            content = path.read_bytes()
            unpacked += len(content)
            info = fixed_zip_info(path.relative_to(tree).as_posix())
            if os.access(path, os.X_OK):
                info.external_attr = 0o100755 << 16
            archive.writestr(info, content, compress_type=zipfile.ZIP_DEFLATED)
    return buffer.getvalue(), unpacked


def _provenance() -> dict[str, object]:
    return {"edgeloop": VERSION, "created_s": int(time.time())}
