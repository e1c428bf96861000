"""Bundles on a stick and what became of them: what `edgeloop deploy file://` and a device write there. ADR 0183.

    ROOT/@bundles/ic-8-0123456789abcdef.bundle    by the host: the file
    ROOT/@bundles/ic-8-0123456789abcdef.offer     by the host, last: what it is, and for whom; JSON
    ROOT/DEVICE/0123456789abcdef.verdict          by the device, beside its reports; JSON

No device's folder is called `@bundles` (`carried_files.device_folder`). Files appear whole under their name or not at
all. The folder may be a stranger's: what is damaged, a link or too large is not read. The door decides what comes in.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeloop.errors import DataError
from edgeloop.telemetry.delivery.carried_files import device_folder
from edgeloop.telemetry.delivery.whole_files import open_ordinary, write_file

BUNDLES = "@bundles"
OFFER, VERDICT, BUNDLE = ".offer", ".verdict", ".bundle"
FORMAT = "edgeloop-carried-bundle/1"
_MAX_JSON_BYTES = 64 * 1024
_PIECE_BYTES = 1 << 20
_BUNDLE = "bundle"
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class CarriedOffer:
    """A bundle for some devices; for all where `devices` is empty. digest: of its manifest, as versions bear it.
    max_p95_ms, max_memory_mib: asked of the door. kind: "bundle", "agent" or "config"."""

    id: str
    name: str
    version: int
    digest: str
    sha256: str
    bytes: int
    unpacked_bytes: int = 0
    devices: tuple[str, ...] = ()
    max_p95_ms: float | None = None
    max_memory_mib: float | None = None
    kind: str = _BUNDLE

    @property
    def stem(self) -> str:
        """Of its two files."""
        return f"{device_folder(self.name)}-{self.version}-{self.id}"

    def is_for(self, device: str) -> bool:
        return not self.devices or device in self.devices


def encode_offer(offer: CarriedOffer) -> bytes:
    said = asdict(offer)
    if offer.kind == _BUNDLE:  # not said, for agents from before there were others
        del said["kind"]
    return json.dumps({"format": FORMAT, **said}).encode()


def decode_offer(data: bytes) -> CarriedOffer:
    """DataError for what is none, or a newer one."""
    said = _object(data)
    if said.pop("format", None) != FORMAT:
        raise DataError("is no offer that this edgeloop reads")
    try:
        devices = said.pop("devices")
        offer = CarriedOffer(**said, devices=tuple(devices))
        fits = (
            isinstance(devices, list)
            and all(isinstance(text, str) for text in (offer.id, offer.name, offer.digest, offer.sha256, *devices))
            and isinstance(offer.kind, str)
            and all(type(n) is int and 0 <= n < 2**53 for n in (offer.version, offer.bytes, offer.unpacked_bytes))
            and all(n is None or (type(n) in (int, float) and n > 0) for n in (offer.max_p95_ms, offer.max_memory_mib))
            and _ID.fullmatch(offer.id)
            and re.fullmatch(r"[0-9a-f]{64}", offer.sha256)
        )
    except (TypeError, KeyError) as error:
        raise DataError("is no offer") from error
    if not fits:
        raise DataError("is no offer")
    return offer


def offers_on(root: Path) -> Iterator[CarriedOffer | DataError]:
    """In the order of their names. OSError; none where nothing was ever put there."""
    folder = root / BUNDLES
    if not folder.is_dir() or folder.is_symlink():
        return
    for path in sorted(path for path in folder.iterdir() if path.suffix == OFFER):
        try:
            offer = decode_offer(read_small(path))
            yield offer if path.stem == offer.stem else DataError(f"{path.name} is another offer's")
        except DataError as error:
            yield DataError(f"{path.name}: {error.message}")


def verdict_path(root: Path, device: str, offer: str) -> Path:
    return root / device_folder(device) / f"{offer}{VERDICT}"


def read_verdict_on(root: Path, device: str, offer: str) -> dict[str, Any] | None:
    """None where the device has written none, or the stick has damaged it. OSError."""
    with suppress(DataError, FileNotFoundError):
        return _object(read_small(verdict_path(root, device, offer)))
    return None


def write_verdict_on(root: Path, device: str, offer: str, verdict: Mapping[str, Any]) -> None:
    """It is on the stick when this returns. OSError."""
    path = verdict_path(root, device, offer)
    path.parent.mkdir(exist_ok=True)
    write_file(path, [json.dumps(dict(verdict)).encode()])


def pieces_of(path: Path, size: int) -> Iterator[bytes]:
    """An ordinary file of exactly this size. DataError for anything else; OSError."""
    with open_ordinary(path) as file:
        if os.fstat(file.fileno()).st_size != size:
            raise DataError(f"{path.name} is not the file that was offered")
        left = size
        while left and (piece := file.read(min(_PIECE_BYTES, left))):
            left -= len(piece)
            yield piece


def read_small(path: Path) -> bytes:
    """Of a small ordinary file. DataError also for one that cannot be opened; FileNotFoundError, OSError."""
    try:
        file = open_ordinary(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"{path.name}: {error.strerror}") from error
    with file:
        data = file.read(_MAX_JSON_BYTES + 1)
    if len(data) > _MAX_JSON_BYTES:
        raise DataError(f"{path.name} is too large")
    return data


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError("is damaged") from error
    if not isinstance(found, dict):
        raise DataError("is damaged")
    return found
