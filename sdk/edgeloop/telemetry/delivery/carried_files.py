"""Files in which reports are carried: what the device and the collector write on a stick or a shared folder.

    ROOT/DEVICE/1a2b3c4d.batch    by the device: one frame as on a serial line, of an id and a batch
    ROOT/DEVICE/1a2b3c4d.ack      by the collector, after its commit: one frame of the same id and the acknowledgement

A file appears whole under its name or not at all, and its checksum (`framing`) tells one that the stick has damaged.
The folder may be a stranger's: links, pipes and what is too large are not read, and nothing outside of it is touched.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from urllib.parse import quote

from edgeloop.errors import DataError
from edgeloop.telemetry.delivery.whole_files import open_ordinary, write_file
from edgeloop.telemetry.wire.framing import (
    KIND_ACK,
    KIND_BATCH,
    MAX_PAYLOAD_BYTES,
    FrameReader,
    encode_request,
    split_request,
)

BATCH, ACK = ".batch", ".ack"
_MAX_FILE_BYTES = MAX_PAYLOAD_BYTES + MAX_PAYLOAD_BYTES // 254 + 64
_MAX_NAME_CHARS = 100
_KINDS = {BATCH: KIND_BATCH, ACK: KIND_ACK}


def device_folder(device: str) -> str:
    """A name for a folder that every file system takes, FAT too; nearly always as one reads it."""
    name = quote(device, safe="").replace("~", "%7E")
    if name.startswith(".") or name.endswith("."):
        name = name.replace(".", "%2E")
    return name if len(name) <= _MAX_NAME_CHARS else f"{name[:_MAX_NAME_CHARS]}~{zlib.crc32(device.encode()):08x}"


def write_whole(path: Path, request_id: int, body: bytes) -> None:
    """A batch or an acknowledgement, by the name's ending. It is on the disk when this returns. OSError; then nothing
    is left behind but what was there before."""
    write_file(path, [encode_request(_KINDS[path.suffix], request_id, body)])


def read_whole(path: Path) -> tuple[int, bytes]:
    """(request id, body) of a batch or an acknowledgement. DataError for what is no such file or damaged; OSError."""
    with open_ordinary(path) as file:
        data = file.read(_MAX_FILE_BYTES + 1)
    frames = FrameReader(_MAX_FILE_BYTES).feed(data)
    if len(frames) != 1 or frames[0].kind != _KINDS[path.suffix]:
        raise DataError(f"{path.name} is damaged")
    return split_request(frames[0].payload)
