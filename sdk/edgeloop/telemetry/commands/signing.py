"""Who vouches for a command: an operator's Ed25519 key, the same kind of key that signs bundles.

The signed message starts with a line of its own, so no signature over a bundle's manifest (JSON, which starts with a
brace) can pass for one over a command, nor the other way round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.bundle.trust import TrustStore, is_valid_signature
from edgeloop.telemetry.commands.codec import Envelope, encode_content, encode_envelope
from edgeloop.telemetry.commands.values import Command

if TYPE_CHECKING:
    from edgeloop.bundle.keys import SigningKey

_DOMAIN = b"edgeloop command 1\n"


def unsigned(command: Command) -> bytes:
    """The bytes of a command of an open kind. DataError."""
    return encode_envelope(encode_content(command))


def signed(command: Command, key: SigningKey) -> bytes:
    """The bytes of a command that this key's owner gives. DataError."""
    content = encode_content(command)
    return encode_envelope(content, key_id_of(key.fingerprint), key.sign(_DOMAIN + content))


def key_id_of(fingerprint: str) -> str:
    """The digits of `el:xxxx-xxxx-...`, by which a device finds the key."""
    return fingerprint.removeprefix("el:").replace("-", "")


def signer(envelope: Envelope, operators: TrustStore) -> str | None:
    """Fingerprint of the operator whose signature this is; None where it is nobody's. About 4 ms of computing."""
    for fingerprint, trusted in operators.keys.items():
        if key_id_of(fingerprint) == envelope.key_id:
            is_his = is_valid_signature(trusted.key.raw, envelope.signature, _DOMAIN + envelope.content)
            return fingerprint if is_his else None
    return None
