"""The private keys at hand, as TUF wants them. They are edgeloop's own: Ed25519, one file each, for its owner's eyes
only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.bundle.trust import fingerprint
from edgeloop.errors import MissingExtraError

if TYPE_CHECKING:
    from securesystemslib.signer import Signature

    from edgeloop.bundle.keys import SigningKey


@dataclass(frozen=True)
class Keyring:
    """Private keys by TUF key id."""

    keys: Mapping[str, SigningKey]

    @staticmethod
    def open(files: Sequence[Path] = ()) -> Keyring:
        """The keys of these files; without any the user's own, made now if there is none. Raises as `keys`."""
        from edgeloop.bundle.keys import load_or_create_signing_key, load_signing_key

        found = [load_signing_key(file) for file in files] or [load_or_create_signing_key()]
        return Keyring({key_id(key.public_key.raw): key for key in found})

    def sign(self, keyid: str, payload: bytes) -> Signature:
        """By a key of this ring."""
        from securesystemslib.signer import Signature

        return Signature(keyid, self.keys[keyid].sign(payload).hex())


def key_id(raw: bytes) -> str:
    """The id TUF knows an Ed25519 key by: SHA-256 (hex) of its canonical JSON form."""
    form = f'{{"keytype":"ed25519","keyval":{{"public":"{raw.hex()}"}},"scheme":"ed25519"}}'
    return hashlib.sha256(form.encode()).hexdigest()


def tuf_key(raw: bytes) -> Any:
    """The TUF key of 32 bytes of public key."""
    from securesystemslib.signer import SSlibKey

    return SSlibKey(key_id(raw), "ed25519", "ed25519", {"public": raw.hex()})


def shown(key: Any) -> str:
    """A TUF key for people: the fingerprint that `edgeloop keys` shows."""
    return fingerprint(bytes.fromhex(key.keyval["public"]))


def need_tuf() -> None:
    """Raises MissingExtraError where python-tuf is not installed."""
    try:
        import tuf.api.metadata  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("releases", "release") from error
