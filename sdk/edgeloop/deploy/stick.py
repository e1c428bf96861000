"""`edgeloop deploy file://FOLDER`: bundles onto a stick for devices that find it, and what they wrote back."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from shlex import quote
from typing import Any
from urllib.parse import unquote, urlsplit

from edgeloop.deploy.cargo import Cargo
from edgeloop.errors import DataError, DeviceError, UsageError
from edgeloop.telemetry.delivery.carried_bundles import (
    BUNDLE,
    BUNDLES,
    OFFER,
    VERDICT,
    CarriedOffer,
    encode_offer,
    offers_on,
    pieces_of,
    read_verdict_on,
)
from edgeloop.telemetry.delivery.carried_files import device_folder
from edgeloop.telemetry.delivery.whole_files import write_file

_ROOM_BYTES = 1 << 20
"""Left on the stick, for verdicts and reports."""
_BAD = frozenset({"refused", "rolled back", "failed"})


@dataclass(frozen=True)
class StickState:
    """What one device made of one offer. state: "waiting" where it has written nothing, else as on the stick."""

    name: str
    version: int
    device: str
    state: str
    reason: str = ""

    @property
    def is_bad(self) -> bool:
        return self.state in _BAD


def stick_folder(url: str) -> Path:
    """UsageError for a URL that names no folder, DeviceError where it is not there."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc or parts.query or not path.startswith("/") or path.strip("/") == "" or "\0" in path:
        raise UsageError(f"{url} names no folder", hint="file:///media/usb/edgeloop")
    if not Path(path).is_dir():
        raise DeviceError(f"{path} is not there", hint=f"is the stick in and mounted? then, once: mkdir {quote(path)}")
    return Path(path)


def put_on_stick(
    root: Path, cargoes: Sequence[Cargo], devices: Sequence[str] = (), *,
    max_p95_ms: float | None = None, max_memory_mib: float | None = None,
) -> list[CarriedOffer]:  # fmt: skip
    """Each for these devices, for all that find it where none is named. An earlier offer of the same name for the same
    devices goes. DeviceError where the stick is full, gone or cannot be written; what was on it still is, then."""
    offers = []
    for cargo in cargoes:
        path, data_bytes = cargo.path, cargo.bytes
        offer = CarriedOffer(
            token_hex(8), cargo.name, cargo.version, cargo.digest, _sha256(path), data_bytes, cargo.unpacked_bytes,
            tuple(sorted(devices)), max_p95_ms, max_memory_mib, cargo.kind,
        )  # fmt: skip
        try:
            if shutil.disk_usage(root).free < data_bytes + _ROOM_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            folder = root / BUNDLES
            folder.mkdir(exist_ok=True)
            write_file(folder / f"{offer.stem}{BUNDLE}", pieces_of(path, data_bytes))
            # Last, so that whoever finds it finds the file.
            write_file(folder / f"{offer.stem}{OFFER}", [encode_offer(offer)])
            for other in list(offers_on(root)):
                if isinstance(other, CarriedOffer) and _is_replaced(other, offer):
                    _take_off(root, other)
        except OSError as error:
            hint = "take a larger stick, or remove files" if error.errno == errno.ENOSPC else "was the stick pulled?"
            raise DeviceError(f"{root}: {error.strerror}", hint=hint) from error
        offers.append(offer)
    return offers


def stick_states(root: Path) -> list[StickState]:
    """Of each offer on it: what the devices wrote, and those named that wrote nothing. DeviceError."""
    try:
        found = []
        folders = {path.name for path in root.iterdir() if path.is_dir() and path.name != BUNDLES}
        for offer in offers_on(root):
            if isinstance(offer, DataError):
                continue
            named = {device_folder(device): device for device in offer.devices}
            wrote = {name for name in folders if (root / name / f"{offer.id}{VERDICT}").exists()}
            for folder in sorted(set(named) | wrote):
                device = named.get(folder, unquote(folder))
                found.append(_state(offer, device, read_verdict_on(root, device, offer.id)))
            if not named and not wrote:
                found.append(StickState(offer.name, offer.version, "", "waiting", "for any device"))
        return found
    except OSError as error:
        raise DeviceError(f"{root}: {error.strerror}", hint="was the stick pulled?") from error


def _is_replaced(other: CarriedOffer, offer: CarriedOffer) -> bool:
    return other.id != offer.id and _whose(other) == _whose(offer)


def _whose(offer: CarriedOffer) -> tuple[str, str, tuple[str, ...]]:
    return offer.kind, offer.name, offer.devices


def _state(offer: CarriedOffer, device: str, verdict: dict[str, Any] | None) -> StickState:
    if verdict is None:
        return StickState(offer.name, offer.version, device, "waiting")
    state, reason = (" ".join(str(verdict.get(key, "")).split())[:300] for key in ("state", "reason"))
    shown = "".join(c if c.isprintable() else "?" for c in reason)
    return StickState(offer.name, offer.version, device, state if state.isprintable() else "?", shown)


def _take_off(root: Path, offer: CarriedOffer) -> None:
    """The offer first: no offer without its file."""
    for suffix in (OFFER, BUNDLE):
        (root / BUNDLES / f"{offer.stem}{suffix}").unlink(missing_ok=True)
    for verdict in _verdicts(root, offer):
        with suppress(OSError):
            verdict.unlink()


def _verdicts(root: Path, offer: CarriedOffer) -> Iterator[Path]:
    for folder in root.iterdir():
        path = folder / f"{offer.id}{VERDICT}"
        if folder.is_dir() and not folder.is_symlink() and path.exists():
            yield path


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
