"""Release repositories for tests, and the client that a device has: python-tuf's own."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgeloop.bundle import SigningKey
from edgeloop.bundle.keys import create_signing_key
from edgeloop.bundle.trust import TrustStore
from edgeloop.deploy.release.change import Change
from edgeloop.deploy.release.keyring import Keyring, key_id
from edgeloop.deploy.release.publish import Published, publish
from edgeloop.deploy.release.repository import Repository, locked
from edgeloop.deploy.release.setup import create, one_key
from edgeloop.release.channel import Channel, channel_path
from support.bundles import NO_MODEL, small_bundle

NOW = datetime.now(timezone.utc).replace(microsecond=0)


def key_in(folder: Path) -> SigningKey:
    return create_signing_key(folder)


def ring(*keys: SigningKey) -> Keyring:
    return Keyring({key_id(key.public_key.raw): key for key in keys})


def new_repository(folder: Path, key: SigningKey, now: datetime = NOW) -> Path:
    with locked(folder):
        assert create(folder, one_key(ring(key)), ring(key), now) == ()
    return folder


def bundle_of(folder: Path, key: SigningKey | None, version: int, salt: bytes = b"", **more: Any) -> Path:
    from edgeloop.bundle import VariantDraft

    place = folder / f"made-{version}-{salt.hex()}"
    place.mkdir(exist_ok=True)
    variants = [VariantDraft("int8", NO_MODEL + salt, "int8", ("xnnpack", "cpu"))]
    return small_bundle(place, key, version=version, name="ic", golden=None, variants=variants, **more)


def take_in(
    repo: Path, key: SigningKey, bundle: Path, channel: str = "stable", now: datetime = NOW, **more: Any
) -> Published:
    with locked(repo):
        change = Change.of(Repository.load(repo), ring(key), now)
        done = publish(change, bundle, channel, trust=TrustStore.of(key.public_key), **more)
        assert change.commit() == ()
    return done


class Device:
    """A device's client of a repository folder, without a server: files are fetched from the folder itself."""

    def __init__(self, folder: Path, repo: Path, root: bytes | None = None) -> None:
        self.folder, self.repo = folder, repo
        self.root = (repo / "metadata/1.root.json").read_bytes() if root is None else root
        (folder / "metadata").mkdir(parents=True, exist_ok=True)
        (folder / "files").mkdir(exist_ok=True)
        self.fetched: list[str] = []

    def updater(self) -> Any:
        from tuf.api.exceptions import DownloadHTTPError
        from tuf.ngclient import FetcherInterface, Updater

        device = self

        class FromFolder(FetcherInterface):  # type: ignore[misc]
            def _fetch(self, url: str) -> Any:
                name = url.removeprefix("file://repo/")
                device.fetched.append(name)
                path = device.repo / name
                if not path.is_file():
                    raise DownloadHTTPError(f"no {name}", 404)
                yield path.read_bytes()

        found = Updater(
            str(self.folder / "metadata"), "file://repo/metadata/", str(self.folder / "files"), "file://repo/targets/",
            fetcher=FromFolder(), bootstrap=self.root,
        )  # fmt: skip
        found.refresh()
        return found

    def channel(self, name: str = "stable") -> Channel:
        return Channel.from_json(self.fetch(channel_path(name)))

    def fetch(self, target_path: str) -> bytes:
        updater = self.updater()
        target = updater.get_targetinfo(target_path)
        assert target is not None, target_path
        return Path(updater.download_target(target)).read_bytes()
