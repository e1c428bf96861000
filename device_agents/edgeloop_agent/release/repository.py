"""A release repository as a device sees it: `tuf.ngclient` with our fetcher, and its errors in one line each."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote, urlsplit

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    SlowRetrievalError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, TargetFile
from tuf.api.serialization import DeserializationError
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from edgeloop.bundle.checked import printable
from edgeloop.errors import DeviceError, RefusedError, UsageError
from edgeloop.release.channel import MAX_CHANNEL_BYTES, Channel, channel_path
from edgeloop_agent.release.clock import is_behind, reference_time
from edgeloop_agent.release.http_files import ElsewhereError, HttpFiles
from edgeloop_agent.release.resuming import fetch
from edgeloop_agent.release.signatures import use_libcrypto

ROOT = "root.json"
_BRINGS_A_ROOT = "edgeloop flash or deploy with --release URL --release-root root.json brings it"
_MAX_ROOT_BYTES = 512_000
_MOST_SAID = 200
_UNTOUCHED = "what runs is as it was"


class GoneError(DeviceError):
    """The far end does not have a file that it should have."""


class _Fetcher(FetcherInterface):  # type: ignore[misc]
    """Metadata for TUF. Small: in memory, not in a file of /tmp."""

    def __init__(self, files: HttpFiles) -> None:
        self._files = files

    def _fetch(self, url: str) -> Iterator[bytes]:
        with self._files.get(url, most=_MAX_ROOT_BYTES) as (_, pieces):
            yield from pieces

    def download_bytes(self, url: str, max_length: int) -> bytes:
        with self._files.get(url, most=max_length) as (_, pieces):
            return b"".join(pieces)


class Repository:
    """What a trusted root vouches for. Every method raises RefusedError (exit 4) for what nobody vouches for, and
    DeviceError (exit 3) where the far end, the network or the disk fails."""

    def __init__(self, url: str, folder: Path, files: HttpFiles, *, now: datetime | None = None) -> None:
        """folder: of the device's state, with the trusted root.json in it. Looks at the repository at once."""
        self._files, self._folder = files, folder
        self._targets_url = f"{url.rstrip('/')}/targets/"
        self._host = urlsplit(url).netloc
        now = now or datetime.now(timezone.utc)
        root = _trusted_root(folder / ROOT)
        use_libcrypto()
        with self._explained(now):
            metadata = folder / "metadata"
            metadata.mkdir(parents=True, exist_ok=True)
            self._updater = Updater(
                str(metadata),
                f"{url.rstrip('/')}/metadata/",
                fetcher=_Fetcher(files),
                config=UpdaterConfig(root_max_length=_MAX_ROOT_BYTES),
                bootstrap=root,
            )
            # The one hook for a clock; a test holds it in place.
            self._updater._trusted_set.reference_time = reference_time(now)
            self._updater.refresh()
        self._now = now

    def channel(self, name: str) -> Channel:
        """What a channel offers now; the file is fetched only when it changed."""
        path = channel_path(name)
        with self._explained(self._now):
            target = self._target(path)
            if target is None:
                raise DeviceError(
                    f"{self._host} has no channel '{name}'", hint='channel = "NAME" in the agent\'s config'
                )
            if target.length > MAX_CHANNEL_BYTES:
                raise RefusedError(f"the channel's description is larger than {MAX_CHANNEL_BYTES >> 10} KiB")
            kept = self._folder / "channel.json"
            if not _is(target, kept):
                kept.unlink(missing_ok=True)
                self._bring(target, kept)
            channel = Channel.from_json(kept.read_bytes())
        if channel.channel != name:
            raise RefusedError(f"the channel '{name}' is described as '{channel.channel}'")
        return channel

    def bring(self, path: str, to: Path, *, sha256: str | None, most: int) -> None:
        """A target file, verified, at `to`; what an earlier call left there is gone on with. sha256 (hex): what it
        must have besides; most: bytes it may have."""
        with self._explained(self._now):
            target = self._target(path)
            if target is None:
                raise RefusedError(f"{path} is offered, but not signed for", hint=_UNTOUCHED)
            if target.length > most or (sha256 is not None and target.hashes.get("sha256") != sha256):
                raise RefusedError(f"{path} is not what the channel describes", hint=_UNTOUCHED)
            had = to.exists()
            self._bring(target, to)
            if not _is(target, to) and had:  # what an earlier call left may be what is wrong
                to.unlink()
                self._bring(target, to)
            if not _is(target, to):
                to.unlink()
                raise RefusedError(f"{path} is not the file that was signed", hint=_UNTOUCHED)

    # -- inside

    def _target(self, path: str) -> TargetFile | None:
        return self._updater.get_targetinfo(path)

    def _bring(self, target: TargetFile, to: Path) -> None:
        folder, name = posixpath.split(target.path)
        digest = next(iter(target.hashes.values()))
        fetch(self._files, f"{self._targets_url}{quote(folder)}/{digest}.{quote(name)}", to, target.length)

    @contextlib.contextmanager
    def _explained(self, now: datetime) -> Iterator[None]:
        host = self._host
        try:
            yield
        except ExpiredMetadataError as error:
            clock = f"or this device's clock is wrong (it says {now:%Y-%m-%d %H:%M} UTC)"
            raise RefusedError(
                f"{host}: its metadata are out of date ({_line(error)}): a new release may be kept from this device",
                hint=f"whoever publishes must sign them again, {clock}",
            ) from error
        except UnsignedMetadataError as error:
            raise RefusedError(f"{host}: not signed by the trusted keys ({_line(error)})", hint=_UNTOUCHED) from error
        except BadVersionNumberError as error:
            raise RefusedError(
                f"{host}: older than what was seen or signed before ({_line(error)})", hint=_UNTOUCHED
            ) from error
        except (LengthOrHashMismatchError, DownloadLengthMismatchError) as error:
            raise RefusedError(f"{host}: not what was signed ({_line(error)})", hint=_UNTOUCHED) from error
        except ElsewhereError as error:
            raise RefusedError(_line(error), hint="release = URL in the config must be where the files are") from error
        except RepositoryError as error:
            raise RefusedError(f"{host}: its metadata are refused ({_line(error)})", hint=_UNTOUCHED) from error
        except SlowRetrievalError as error:
            raise DeviceError(
                f"{host} is too slow: {_line(error)}", hint="the next poll goes on where this one stopped"
            ) from error
        except DownloadHTTPError as error:
            raise GoneError(_line(error), hint="is this a release repository? edgeloop release publish") from error
        except DownloadError as error:
            hint = "the clock of this device is wrong" if is_behind(now) else "the next poll tries again"
            raise DeviceError(_line(error), hint=hint) from error
        except OSError as error:
            raise DeviceError(f"{self._folder}: {error.strerror}", hint=_UNTOUCHED) from error


def _line(error: Exception) -> str:
    """What the far end sent may be part of it."""
    return printable(str(error).strip())[:_MOST_SAID]


def _is(target: TargetFile, path: Path) -> bool:
    """Whether the file is this target."""
    try:
        with path.open("rb") as file:
            target.verify_length_and_hashes(file)
    except (OSError, LengthOrHashMismatchError):
        return False
    return True


def _trusted_root(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            root = file.read(_MAX_ROOT_BYTES)
        Metadata.from_bytes(root)
    except OSError as error:
        raise UsageError(f"no trusted root: {path}: {error.strerror}", hint=_BRINGS_A_ROOT) from error
    except DeserializationError as error:  # else it would be said of the far end
        raise RefusedError(f"{path} is damaged: no trusted root", hint=_BRINGS_A_ROOT) from error
    return root
