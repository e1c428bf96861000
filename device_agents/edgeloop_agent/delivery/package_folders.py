"""Where agents and configs lie that came through the door, on top of those that root installed: the base.

    STATE/packages/base.json                          which base the service starts, see `launching`
    STATE/packages/agent/BASE/versions/N-DIGEST.agent   its signed manifest; runs are taken from
                              trees/N-DIGEST/           the agent itself
    STATE/packages/config/BASE/versions/N-DIGEST.toml

BASE is the installed agent's version, or the digest of the installed config's bytes: whoever has root and changes the
base has the last word, for what came on top of the old one does not hold on top of the new one. stdlib only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeloop.bundle.files import write_atomically
from edgeloop_agent.delivery.disk import Disk
from edgeloop_agent.delivery.update import Version
from edgeloop_agent.delivery.versions import DIGEST_CHARS, VersionFolder

PACKAGES = "packages"
AGENT, CONFIG = "agent", "config"
LAUNCHER = Path("bin/edgeloop-agent")
KEPT_AGENTS = 2
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]")
_NEW, _OLD = ".new-", ".old-"


@dataclass(frozen=True)
class Base:
    """What root installed. agent: its version; command: how it is started, without a verb; config: its path;
    config_digest: of the file's bytes."""

    agent: str
    command: tuple[str, ...]
    config: str
    config_digest: str


class AgentFolder(VersionFolder):
    """Versions of the agent: of each its signed manifest, which is the version's file, and its tree."""

    def __init__(self, folder: Path, *, disk: Disk | None = None) -> None:
        super().__init__(folder, suffix=".agent", disk=disk, keep=KEPT_AGENTS)
        self._trees = folder / "trees"

    def tree_of(self, version: Version) -> Path:
        return self._trees / f"{version.number}-{version.digest}"

    def launcher_of(self, version: Version) -> Path:
        return self.tree_of(version) / LAUNCHER

    def plant(self, version: Version, fill: Callable[[Path], None]) -> Path:
        """Have `fill` write a tree into an empty folder; it is there whole, and on the disk, or not at all. Raises what
        `fill` raises. For one process at a time, and for a version that does not run."""
        tree = self.tree_of(version)
        fresh = tree.with_name(_NEW + tree.name)
        self.tidy()
        if tree.exists():
            self._disk.rename(tree, tree.with_name(_OLD + tree.name))
        self._disk.make_folder(fresh)
        try:
            fill(fresh)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        self._disk.flush()
        self._disk.rename(fresh, tree)
        self._disk.sync(self._trees)
        self._disk.sync(self.folder)
        shutil.rmtree(tree.with_name(_OLD + tree.name), ignore_errors=True)
        return tree

    def tidy(self) -> None:
        """Remove trees that belong to no version; not while one is planted."""
        kept = {self.tree_of(version).name for version in self.standing().kept}
        for path in self._trees.iterdir() if self._trees.is_dir() else ():
            if path.name not in kept and (
                path.name.startswith((_NEW, _OLD)) or self._version(path.name + self._suffix)
            ):
                shutil.rmtree(path, ignore_errors=True)

    def _is_whole(self, version: Version) -> bool:
        return super()._is_whole(version) and self.launcher_of(version).is_file()


def agent_folder(state: Path, base: Base) -> AgentFolder:
    return AgentFolder(state / PACKAGES / AGENT / base.agent)


def config_folder(state: Path, base: Base) -> VersionFolder:
    return VersionFolder(state / PACKAGES / CONFIG / base.config_digest, suffix=".toml")


def package_folder(state: Path, base: Base, kind: str) -> VersionFolder:
    """kind: AGENT or CONFIG."""
    return agent_folder(state, base) if kind == AGENT else config_folder(state, base)


def is_changed(base: Base) -> bool:
    """Whether root has changed the config since the service looked."""
    try:
        return base_of(base.agent, base.command, Path(base.config)) != base
    except OSError:
        return True


def base_of(agent: str, command: tuple[str, ...], config: Path) -> Base:
    """Raises OSError where there is no config."""
    digest = hashlib.sha256(config.read_bytes()).hexdigest()[:DIGEST_CHARS]
    return Base(_UNSAFE.sub("-", agent).lstrip(".") or "agent", command, str(config.absolute()), digest)


def write_base(state: Path, base: Base) -> None:
    """For the door. Nothing is written where it says the same. Raises OSError."""
    path = state / PACKAGES / "base.json"
    if read_base(state) != base:
        write_atomically(path, json.dumps(asdict(base)).encode())


def read_base(state: Path) -> Base | None:
    """None where no service ever looked for what came in."""
    try:
        said = json.loads((state / PACKAGES / "base.json").read_bytes())
        return Base(
            str(said["agent"]), tuple(map(str, said["command"])), str(said["config"]), str(said["config_digest"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget_other_bases(state: Path, base: Base) -> None:
    """Keep what came on top of this base and of the one before. Whatever cannot be removed stays."""
    for kind, mine in ((AGENT, base.agent), (CONFIG, base.config_digest)):
        try:
            others = [p for p in os.scandir(state / PACKAGES / kind) if p.name != mine]
            others.sort(key=lambda entry: entry.stat().st_mtime_ns)
        except OSError:
            continue
        for entry in others[:-1]:
            shutil.rmtree(entry.path, ignore_errors=True)
