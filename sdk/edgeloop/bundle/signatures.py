"""signatures.json: Ed25519 signatures over the exact bytes of manifest.json, and the decision whether they are
enough.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.bundle.checked import as_table, canonical_json, list_at, parse_canonical_json, text_at
from edgeloop.bundle.limits import MAX_SIGNATURES, SIGNATURES
from edgeloop.bundle.trust import SIGNATURE_BYTES, PublicKey, TrustStore, fingerprint, is_valid_signature
from edgeloop.errors import ConfigError, RefusedError

if TYPE_CHECKING:
    from edgeloop.bundle.keys import SigningKey

ALGORITHM = "ed25519"

VALID = "valid"
UNSIGNED = "unsigned"
UNKNOWN_KEY = "unknown key"
BAD_SIGNATURE = "bad signature"
TAMPERED = "tampered"


@dataclass(frozen=True)
class SignatureEntry:
    """A signature and the public key it claims. The key is there for people to look at; trust comes from the device."""

    public_key: PublicKey
    signature: bytes


@dataclass(frozen=True)
class Verdict:
    """`state`: one of the constants above. `fingerprint`: of the key that decided it. `problem`, `hint`: for the
    error line.
    """

    state: str
    fingerprint: str | None = None
    problem: str = ""
    hint: str | None = None


def sign_manifest(manifest: bytes, key: SigningKey) -> SignatureEntry:
    """Sign the exact bytes of manifest.json."""
    return SignatureEntry(key.public_key, key.sign(manifest))


def encode_signatures(entries: Sequence[SignatureEntry], allowances: Sequence[Mapping[str, str]] = ()) -> bytes:
    """The bytes of signatures.json; an unsigned bundle has an empty list. allowances: see `allowances`."""
    body: dict[str, object] = {"schema": 1, "signatures": [entry_table(entry) for entry in entries]}
    return canonical_json({**body, "allowances": list(allowances)} if allowances else body)


def decode_signatures(raw: bytes) -> tuple[SignatureEntry, ...]:
    """Read signatures.json. Raises RefusedError. Entries of an algorithm that is not known here are passed over."""
    data = parse_canonical_json(raw, SIGNATURES)
    entries = (as_entry(item) for item in list_at(data, "signatures", MAX_SIGNATURES))
    return tuple(entry for entry in entries if entry is not None)


def entry_table(entry: SignatureEntry) -> dict[str, str]:
    """As it stands in signatures.json."""
    return {
        "algorithm": ALGORITHM,
        "fingerprint": entry.public_key.fingerprint,
        "public_key": base64.b64encode(entry.public_key.raw).decode("ascii"),
        "signature": base64.b64encode(entry.signature).decode("ascii"),
    }


def as_entry(item: object) -> SignatureEntry | None:
    """The inverse; None for an algorithm that is not known here. Raises RefusedError."""
    table = as_table(item, "a signature")
    if text_at(table, "algorithm", 100) != ALGORITHM:
        return None
    try:
        public_key = PublicKey(base64.b64decode(text_at(table, "public_key", 100), validate=True))
        signature = base64.b64decode(text_at(table, "signature", 200), validate=True)
    except (ConfigError, binascii.Error, ValueError) as error:
        raise RefusedError(f"{SIGNATURES}: a key or signature is damaged") from error
    if len(signature) != SIGNATURE_BYTES or text_at(table, "fingerprint", 100) != fingerprint(public_key.raw):
        raise RefusedError(f"{SIGNATURES}: a key or signature is damaged")
    return SignatureEntry(public_key, signature)


def judge(manifest: bytes, entries: Sequence[SignatureEntry], trust: TrustStore) -> Verdict:
    """What the signatures are worth here: one valid signature by a trusted key is enough."""
    if not entries:
        return Verdict(UNSIGNED, None, "is not signed", "sign it: edgeloop bundle sign FILE")
    trusted = [e for e in entries if e.public_key.fingerprint in trust.keys]
    for entry in trusted:
        name = entry.public_key.fingerprint
        if is_valid_signature(trust.keys[name].key.raw, entry.signature, manifest):
            return Verdict(VALID, name)
    if trusted:
        name = trusted[0].public_key.fingerprint
        problem = f"manifest.json is not what {name} signed: it or the signature was changed afterwards"
        return Verdict(BAD_SIGNATURE, name, problem, "get the bundle again from who made it")
    for entry in entries:
        if is_valid_signature(entry.public_key.raw, entry.signature, manifest):
            name = entry.public_key.fingerprint
            return Verdict(UNKNOWN_KEY, name, f"is signed by a key that is not trusted here: {name}", trust.hint())
    name = entries[0].public_key.fingerprint
    problem = f"manifest.json is not what {name} signed: it or the signature was changed afterwards"
    return Verdict(BAD_SIGNATURE, name, problem, "get the bundle again from who made it")
