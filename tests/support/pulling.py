"""A device that pulls from a repository on a loopback server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from edgeloop.bundle import SigningKey, TrustStore
from edgeloop.bundle.reader import Bundle
from edgeloop_agent.delivery.apply import model_folder, version_of
from edgeloop_agent.release.door import Verdict
from edgeloop_agent.release.http_files import HttpFiles, Patience
from edgeloop_agent.release.pull import FOLDER, Device, Pulled, pull
from edgeloop_agent.release.repository import Repository
from support.release_server import ReleaseServer, serving
from support.releasing import key_in, new_repository, take_in
from support.retrained import bundle_of, model_bytes

HASTY = Patience(timeout_s=2.0, head_s=1.0, window_s=0.5)
"""For far ends that are too slow: on a busy machine an honest one may be, too."""


@dataclass
class Fleet:
    """One device of it: its door takes what its key signed, without a rehearsal. `offered`: what came to the door."""

    repo: Path
    state: Path
    key: SigningKey
    server: ReleaseServer
    offered: list[bytes] = field(default_factory=list)
    verdict: Verdict = field(default_factory=lambda: Verdict("trial"))
    url: str = ""
    patience: Patience = field(default_factory=Patience)
    tags: tuple[str, ...] = ()

    def publish(self, version: int, model: bytes | None = None, target: str = "", **more: Any) -> Path:
        """target: see `bundle_of`. model: by default one that has nothing in common with other versions', so that no
        delta is made."""
        model = model_bytes(8_000, seed=version) if model is None else model
        bundle = self.state.parent / f"ic-{version}.bundle"
        bundle_of(bundle, model, self.key, version, name="ic", target=target)
        take_in(self.repo, self.key, bundle, **more)
        return bundle

    def install(self, bundle: Path) -> None:
        """As if it had come in before, and was well."""
        version = version_of(Bundle.open(bundle, trust=TrustStore.of(self.key.public_key)))
        folder = model_folder(self.state, "ic")
        folder.take_in(version, [bundle.read_bytes()])
        folder.begin_trial(version)
        folder.commit()

    def door(self, file: Path, p95_ms: float | None) -> Verdict:
        self.offered.append(file.read_bytes())
        if self.verdict.state == "trial":
            version = version_of(Bundle.open(file, trust=TrustStore.of(self.key.public_key)))
            model_folder(self.state, "ic").take_in(version, [file.read_bytes()])
            model_folder(self.state, "ic").begin_trial(version)
        return self.verdict

    def pull(
        self, channel: str = "stable", *, again: bool = False, rate: float = 0.0, now: datetime | None = None
    ) -> Pulled:
        url = self.url or self.server.url
        files = HttpFiles(url, rate=rate, patience=self.patience)
        try:
            return pull(
                lambda: Repository(url, self.state / FOLDER, files, now=now),
                channel, Device("pi-1", self.state, self.tags), self.door, again=again,
            )  # fmt: skip
        finally:
            files.close()

    @property
    def running(self) -> int | None:
        found = model_folder(self.state, "ic").standing().running
        return None if found is None else found.number


@contextlib.contextmanager
def fleet_of(folder: Path) -> Iterator[Fleet]:
    """With an empty repository that the device trusts."""
    key = key_in(folder / "keys")
    repo = new_repository(folder / "repo", key)
    state = folder / "state"
    (state / FOLDER).mkdir(parents=True)
    (state / FOLDER / "root.json").write_bytes((repo / "metadata/1.root.json").read_bytes())
    with serving(repo) as server:
        yield Fleet(repo, state, key, server)
