"""Commands and answers as CBOR with integer keys. Decoding is for bytes from a stranger: DataError and nothing else.

A command travels in an envelope: {0: version, 1: the command's bytes, 2: key id, 3: signature}; without the last two
where nobody signed it. The signature is over the inner bytes as they came, so nothing needs to be encoded twice alike.
The tables of keys are in docs/commands.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeloop.errors import DataError
from edgeloop.telemetry.commands.values import Answer, Command, Plain
from edgeloop.telemetry.wire import strict_cbor
from edgeloop.telemetry.wire.values import (
    as_bytes,
    as_map,
    as_name,
    as_number,
    as_text,
    as_time_ms,
    boot_bytes,
    boot_text,
    check_version,
    milliseconds,
    tidy,
)

COMMAND_VERSION = 1
MAX_COMMAND_BYTES = 2048
"""Sixteen of them fit into an acknowledgement beside its rejections."""
MAX_ANSWER_BYTES = 48 * 1024
_KEY_ID_BYTES = 12
_SIGNATURE_BYTES = 64
_ID_BYTES = 8
_MAX_ARGUMENT_DEPTH = 3
_MAX_BODY_DEPTH = 6


@dataclass(frozen=True)
class Envelope:
    """A command as it came. content: the bytes that are signed; key_id: 24 hex digits, "" where nobody signed."""

    command: Command
    content: bytes
    key_id: str = ""
    signature: bytes = b""


def encode_content(command: Command) -> bytes:
    """The bytes of a command that a signature is over. DataError for what the other side would refuse."""
    body: dict[int, object] = {0: COMMAND_VERSION, 1: as_name(command.kind, "command's kind"), 2: _id_bytes(command.id)}
    if command.device:
        body[3] = as_name(command.device, "device")
    if command.boot:
        body[4] = boot_bytes(command.boot)
    if command.counter:
        body[5] = as_number(command.counter, "counter")
    if command.until_uptime_s:
        body[6] = milliseconds(command.until_uptime_s, "until")
    if command.arguments:
        body[7] = dict(command.arguments)
    content = strict_cbor.dumps(body)
    _decode_content(content)
    return content


def encode_envelope(content: bytes, key_id: str = "", signature: bytes = b"") -> bytes:
    """What travels. DataError where it is too large."""
    body: dict[int, object] = {0: COMMAND_VERSION, 1: content}
    if key_id:
        body[2], body[3] = bytes.fromhex(key_id), signature
    data = strict_cbor.dumps(body)
    if len(data) > MAX_COMMAND_BYTES:
        raise DataError(f"command of {len(data)} bytes is larger than {MAX_COMMAND_BYTES}")
    return data


def decode_envelope(data: bytes) -> Envelope:
    """The command in `data`, unjudged. DataError."""
    body = as_map(strict_cbor.loads(data, what="command", max_bytes=MAX_COMMAND_BYTES, max_depth=1), "command")
    check_version(body, "command", COMMAND_VERSION)
    content = as_bytes(body.get(1), "command's content")
    if (2 in body) != (3 in body):
        raise DataError("command has a key without a signature, or a signature without a key")
    key_id, signature = "", b""
    if 2 in body:
        key_id = _sized(body[2], _KEY_ID_BYTES, "command's key").hex()
        signature = _sized(body[3], _SIGNATURE_BYTES, "command's signature")
    return Envelope(_decode_content(content), content, key_id, signature)


def encode_answer(answer: Answer) -> bytes:
    """CBOR of an answer. DataError for what the other side would refuse, one that is too large too."""
    body: dict[int, object] = {0: COMMAND_VERSION, 1: _id_bytes(answer.id)}
    if answer.error:
        body[3] = tidy(answer.error)
    if answer.body:
        body[2] = dict(answer.body)
    data = strict_cbor.dumps(body)
    decode_answer(data)
    return data


def decode_answer(data: bytes) -> Answer:
    """The answer in `data`. DataError."""
    loaded = strict_cbor.loads(data, what="answer", max_bytes=MAX_ANSWER_BYTES, max_depth=_MAX_BODY_DEPTH)
    body = as_map(loaded, "answer")
    check_version(body, "answer", COMMAND_VERSION)
    error = tidy(as_text(body.get(3, ""), "answer's error"))
    if 3 in body and not error:
        raise DataError("answer has an empty error")
    return Answer(_id_text(body.get(1)), _plain_map(body.get(2, {}), "answer's body"), error)


def _decode_content(content: bytes) -> Command:
    loaded = strict_cbor.loads(
        content, what="command", max_bytes=MAX_COMMAND_BYTES, max_depth=_MAX_ARGUMENT_DEPTH, max_items=200
    )
    body = as_map(loaded, "command")
    check_version(body, "command", COMMAND_VERSION)
    kind = as_name(body.get(1), "command's kind")
    if not kind:
        raise DataError("command has no kind")
    return Command(
        kind=kind,
        id=_id_text(body.get(2)),
        arguments=_plain_map(body.get(7, {}), "command's arguments"),
        device=as_name(body.get(3, ""), "device"),
        boot=boot_text(body[4]) if 4 in body else "",
        counter=as_number(body.get(5, 0), "counter"),
        until_uptime_s=as_time_ms(body.get(6, 0), "until") / 1000,
    )


def _plain_map(value: object, what: str) -> Mapping[str, Plain]:
    entries = as_map(value, what)
    _check_plain(entries, what)
    return dict(entries)


def _check_plain(value: object, what: str) -> None:
    """Text as keys, printable text, no byte strings."""
    if isinstance(value, dict):
        for key, item in value.items():
            as_name(key, f"{what}: a key")
            _check_plain(item, what)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_plain(item, what)
    elif isinstance(value, str):
        if not value.isprintable():
            raise DataError(f"{what} has a character that cannot be printed")
    elif value is not None and not isinstance(value, (bool, int, float)):
        raise DataError(f"{what} has a value that is neither text nor a number")


def _sized(value: object, size: int, what: str) -> bytes:
    data = as_bytes(value, what)
    if len(data) != size:
        raise DataError(f"{what} is not {size} bytes")
    return data


def _id_bytes(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except (ValueError, TypeError):
        raw = b""
    if raw.hex() != text or len(raw) != _ID_BYTES:
        raise DataError("command's id is not 16 lowercase hexadecimal digits")
    return raw


def _id_text(value: object) -> str:
    return _sized(value, _ID_BYTES, "command's id").hex()
