"""A signed exception: this very bundle may follow a higher version. It travels in signatures.json, beside the
signatures over the manifest, so that whatever carries the bundle carries it.

What is signed is a statement of its own, which names the manifest by its SHA-256, and which no manifest can be taken
for. A reader that does not know exceptions passes them over, and refuses the older version as before.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.bundle.checked import as_text, canonical_json, integer_at, list_at, parse_canonical_json, text_at
from edgeloop.bundle.limits import MAX_SIGNATURES, SIGNATURES
from edgeloop.bundle.signatures import SignatureEntry, as_entry, entry_table
from edgeloop.bundle.trust import TrustStore, is_valid_signature
from edgeloop.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from edgeloop.bundle.keys import SigningKey

FORMAT = "edgeloop-allow-older"
MAX_DEVICES = 256
MAX_DEVICE_CHARS = 64
KEY = "allowances"
_MAX_STATEMENT_CHARS = 48 << 10
_LAST_S = 1 << 40
_CLOCK_SLACK_S = 86_400


@dataclass(frozen=True)
class Allowance:
    """What was signed. manifest_sha256: of which bundle; devices: their names, () for any; until_s: Unix time of its
    end, None for none; made_s: when it was signed."""

    manifest_sha256: str
    devices: tuple[str, ...] = ()
    until_s: int | None = None
    made_s: int = 0

    def encode(self) -> bytes:
        said = {
            "format": FORMAT, "schema": 1, "manifest_sha256": self.manifest_sha256, "devices": list(self.devices),
            "until_s": self.until_s, "made_s": self.made_s,
        }  # fmt: skip
        return canonical_json(said)

    def objection(self, raw_manifest: bytes, device: str, now_s: float) -> str:
        """Why it does not hold for this manifest on this device at this time; "" where it does."""
        if self.manifest_sha256 != hashlib.sha256(raw_manifest).hexdigest():
            return "was signed for another bundle"
        if self.devices and device not in self.devices:
            return f"is for other devices than {device}"
        if self.until_s is not None and now_s > self.until_s:
            return f"ended on {_date(self.until_s)}"
        if self.until_s is not None and now_s < self.made_s - _CLOCK_SLACK_S:
            return f"has an end, and the clock here says {_date(now_s)}, before it was signed"
        return ""


@dataclass(frozen=True)
class SignedAllowance:
    """The exact bytes of the statement, and who signed them."""

    statement: bytes
    entry: SignatureEntry


@dataclass(frozen=True)
class Exemption:
    """What a bundle's exceptions are worth here. reason: why they do not hold; "" where there is none or one holds."""

    holds: bool = False
    reason: str = ""


def make_allowance(
    raw_manifest: bytes, key: SigningKey, devices: Sequence[str] = (), until_s: float | None = None
) -> SignedAllowance:
    """Raises UsageError for names that no device can have, or an end that is over."""
    now_s = time.time()
    if len(devices) > MAX_DEVICES:
        raise UsageError(f"{len(devices)} devices: an exception names at most {MAX_DEVICES}", hint="name none: for any")
    for name in devices:
        if not name or len(name) > MAX_DEVICE_CHARS or not name.isprintable():
            raise UsageError(f"{name!r} is not the name of a device", hint=f"at most {MAX_DEVICE_CHARS} characters")
    if until_s is not None and not now_s < until_s < _LAST_S:
        raise UsageError(f"an exception until {_date(until_s)} would be over already")
    digest = hashlib.sha256(raw_manifest).hexdigest()
    end_s = None if until_s is None else int(until_s)
    statement = Allowance(digest, tuple(dict.fromkeys(devices)), end_s, int(now_s)).encode()
    return SignedAllowance(statement, SignatureEntry(key.public_key, key.sign(statement)))


def encode_allowances(allowances: Sequence[SignedAllowance]) -> list[dict[str, str]]:
    """As they stand in signatures.json under KEY."""
    return [
        {"statement": base64.b64encode(each.statement).decode("ascii"), **entry_table(each.entry)}
        for each in allowances
    ]


def decode_allowances(raw_signatures: bytes) -> tuple[SignedAllowance, ...]:
    """Out of signatures.json; nothing of them is believed yet. Raises RefusedError."""
    data = parse_canonical_json(raw_signatures, SIGNATURES)
    found = []
    for item in list_at(data, KEY, MAX_SIGNATURES) if KEY in data else ():
        entry = as_entry(item)
        if entry is not None:
            try:
                statement = base64.b64decode(text_at(item, "statement", 2 * _MAX_STATEMENT_CHARS), validate=True)
            except (binascii.Error, ValueError) as error:
                raise RefusedError(f"{SIGNATURES}: an exception is damaged") from error
            found.append(SignedAllowance(statement, entry))
    return tuple(found)


def read_allowance(statement: bytes) -> Allowance:
    """Raises RefusedError."""
    data = parse_canonical_json(statement, "the exception")
    if data.get("format") != FORMAT:
        raise RefusedError("the exception is none")
    if data.get("schema") != 1:
        raise RefusedError("the exception was made by a newer edgeloop")
    devices = tuple(as_text(name, "a device", MAX_DEVICE_CHARS) for name in list_at(data, "devices", MAX_DEVICES))
    until_s = None if data.get("until_s") is None else integer_at(data, "until_s", 0, _LAST_S)
    return Allowance(text_at(data, "manifest_sha256", 64), devices, until_s, integer_at(data, "made_s", 0, _LAST_S))


def judge_allowances(
    raw_manifest: bytes, allowances: Sequence[SignedAllowance], trust: TrustStore, device: str, now_s: float
) -> Exemption:
    """Whether somebody whose bundles are trusted here has signed that this one may follow a higher version, now."""
    reasons = []
    for each in allowances:
        trusted = trust.keys.get(each.entry.public_key.fingerprint)
        if trusted is None:
            reasons.append(f"is signed by a key that is not trusted here: {each.entry.public_key.fingerprint}")
            continue
        if not is_valid_signature(trusted.key.raw, each.entry.signature, each.statement):
            reasons.append("was changed after it was signed")
            continue
        try:
            objection = read_allowance(each.statement).objection(raw_manifest, device, now_s)
        except RefusedError as error:
            objection = f"cannot be read: {error.message}"
        if not objection:
            return Exemption(holds=True)
        reasons.append(objection)
    return Exemption(reason=reasons[0] if reasons else "")


def _date(time_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(max(0.0, min(time_s, 1e11))))
