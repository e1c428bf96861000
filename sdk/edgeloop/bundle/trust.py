"""Public keys, fingerprints and the keys this machine trusts. What a device needs: no `cryptography`, no numpy.

A public key file is one line of text, `edgeloop-ed25519 BASE64 comment`; blank lines and lines with `#` are skipped.
Signatures are Ed25519 (RFC 8032), checked by the pure Python that securesystemslib carries: about 4 ms here, no
compiled code, so the same on every board.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgeloop import paths
from edgeloop.errors import ConfigError, RefusedError
from edgeloop.paths import missing_hint

KEY_TYPE = "edgeloop-ed25519"
SYSTEM_TRUST_DIR = Path("/etc/edgeloop/trusted")
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
_FIELD_PRIME = 2**255 - 19
_GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
_MAX_KEY_FILE_BYTES = 64 << 10
_TRUST_HINT = (
    "if you know who made it: edgeloop keys trust KEYFILE.pub (on a device: edgeloop-agent run --trust KEYFILE.pub)"
)

_NO_KEY_HINT = "whoever signs the bundles writes one: edgeloop keys export FILE.pub"


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key: 32 bytes, and whatever comment its owner gave it."""

    raw: bytes
    comment: str = ""

    def __post_init__(self) -> None:
        if len(self.raw) != PUBLIC_KEY_BYTES:
            raise ConfigError(f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes, not {len(self.raw)}")
        if int.from_bytes(self.raw, "little") & (2**255 - 1) in _WEAK_Y:
            raise ConfigError("this Ed25519 public key is a weak one that anybody can sign for")

    @property
    def fingerprint(self) -> str:
        """`el:` and 24 hex digits of the key's SHA-256 in groups of four, for people to compare."""
        return fingerprint(self.raw)

    def to_text(self) -> str:
        """The one line of a .pub file."""
        return f"{KEY_TYPE} {base64.b64encode(self.raw).decode('ascii')} {self.comment}".rstrip() + "\n"

    @staticmethod
    def from_text(line: str, where: str = "public key") -> PublicKey:
        """The inverse of `to_text`. Raises ConfigError."""
        parts = line.strip().split(maxsplit=2)
        if len(parts) < 2 or parts[0] != KEY_TYPE:
            raise ConfigError(f"{where}: not an edgeloop public key", hint=f"a line like '{KEY_TYPE} BASE64 comment'")
        try:
            raw = base64.b64decode(parts[1].encode("ascii"), validate=True)
        except (UnicodeEncodeError, binascii.Error, ValueError) as error:
            raise ConfigError(f"{where}: the key is not base64") from error
        comment = "".join(c for c in (parts[2] if len(parts) > 2 else "") if c.isprintable())
        try:
            return PublicKey(raw, comment)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error.message}") from error


_WEAK_Y = frozenset(
    {
        0,
        1,
        _FIELD_PRIME - 1,
        _FIELD_PRIME,
        _FIELD_PRIME + 1,
        2707385501144840649318225287225658788936804267575313519463743609750303402022,
        55188659117513257062467267217118295137698188065244968500265048394206261417927,
    }
)
"""y coordinates of the eight points of small order (and their non-canonical spellings): no real key has one."""


def fingerprint(public_key: bytes) -> str:
    """`el:xxxx-xxxx-xxxx-xxxx-xxxx-xxxx` for 32 bytes of public key."""
    digits = hashlib.sha256(public_key).hexdigest()[:24]
    return "el:" + "-".join(digits[i : i + 4] for i in range(0, len(digits), 4))


def is_valid_signature(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Ed25519 verification. Non-canonical signatures are invalid, so a signature has one spelling."""
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    r, s = signature[:32], signature[32:]
    if int.from_bytes(s, "little") >= _GROUP_ORDER:
        return False
    if any(int.from_bytes(point, "little") & (2**255 - 1) >= _FIELD_PRIME for point in (r, public_key)):
        return False
    try:
        # The package's public face, `securesystemslib.signer`, loads `cryptography` wherever it is installed: 12 MiB
        # more.
        from securesystemslib._vendor.ed25519.ed25519 import SignatureMismatch, checkvalid
    except ImportError:
        return _is_valid_by_public_interface(public_key, signature, message)
    try:
        checkvalid(signature, message, public_key)
    except (SignatureMismatch, ValueError):
        return False
    return True


def _is_valid_by_public_interface(public_key: bytes, signature: bytes, message: bytes) -> bool:
    from securesystemslib.exceptions import UnverifiedSignatureError  # and its subclasses: any failure
    from securesystemslib.signer import Signature, SSlibKey

    key = SSlibKey("", "ed25519", "ed25519", {"public": public_key.hex()})
    try:
        key.verify_signature(Signature("", signature.hex()), message)
    except UnverifiedSignatureError:
        return False
    return True


def read_public_keys(path: Path) -> tuple[PublicKey, ...]:
    """All keys of a .pub file. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_KEY_FILE_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigError(f"public key {path}: {reason}") from error
    if len(text) > _MAX_KEY_FILE_BYTES:
        raise ConfigError(f"public key {path}: the file is too large for a key")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise ConfigError(f"public key {path}: no key in it")
    return tuple(PublicKey.from_text(line, f"public key {path}") for line in lines)


def user_trust_dir() -> Path:
    """Where `edgeloop keys trust` puts keys."""
    return paths.config_dir() / "trusted"


def user_key_dir() -> Path:
    """Where the user's own signing key is."""
    return paths.config_dir() / "keys"


@dataclass(frozen=True)
class TrustedKey:
    """A trusted key and the file that says so."""

    key: PublicKey
    path: Path | None = None


@dataclass(frozen=True)
class TrustStore:
    """The keys whose bundles are accepted, by fingerprint. `problems`: key files that could not be used, one line
    each.
    """

    keys: dict[str, TrustedKey] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @staticmethod
    def default() -> TrustStore:
        """The system's, the user's trusted keys and the user's own. A damaged key file is a problem noted, not an
        error: it must not lock out the good ones beside it."""
        return _load([SYSTEM_TRUST_DIR, user_trust_dir(), user_key_dir()], strict=False)

    @staticmethod
    def from_paths(files_or_dirs: Iterable[Path | str]) -> TrustStore:
        """Keys of these files, and of all *.pub in these folders; nothing else. Raises ConfigError for one that is
        unusable.
        """
        return _load([Path(p) for p in files_or_dirs], strict=True)

    @staticmethod
    def of(*keys: PublicKey) -> TrustStore:
        """A store in memory."""
        return TrustStore({k.fingerprint: TrustedKey(k) for k in keys})

    def verify(self, message: bytes, signature: bytes, fingerprint: str) -> PublicKey:
        """The trusted key that made `signature` over `message`. Raises RefusedError."""
        trusted = self.keys.get(fingerprint)
        if trusted is None:
            raise RefusedError(f"signed by a key that is not trusted here: {fingerprint}", hint=self.hint())
        if not is_valid_signature(trusted.key.raw, signature, message):
            raise RefusedError(f"the signature by {fingerprint} does not match: changed after it was signed")
        return trusted.key

    def hint(self) -> str:
        """The next step where a key is unknown."""
        return "; ".join((*self.problems, _TRUST_HINT))


def _load(places: Sequence[Path], *, strict: bool) -> TrustStore:
    keys: dict[str, TrustedKey] = {}
    problems: list[str] = []
    for place in places:
        try:
            if place.is_dir():
                _refuse_world_writable(place)
                files = sorted(place.glob("*.pub"))
            elif place.exists() or strict:
                files = [place]
            else:
                files = []
        except (OSError, ConfigError) as error:
            _note(error, place, strict, problems)
            continue
        for file in files:
            try:
                _refuse_world_writable(file)
                for key in read_public_keys(file):
                    keys.setdefault(key.fingerprint, TrustedKey(key, file))
            except (OSError, ConfigError) as error:
                _note(error, file, strict, problems)
    return TrustStore(keys, tuple(problems))


def _note(error: OSError | ConfigError, place: Path, strict: bool, problems: list[str]) -> None:
    reason = error.message if isinstance(error, ConfigError) else f"trusted keys in {place}: {error.strerror}"
    if strict:
        is_there = place.exists()
        hint = error.hint if is_there and isinstance(error, ConfigError) else None
        raise ConfigError(reason, hint=hint or (None if is_there else missing_hint(place) or _NO_KEY_HINT)) from error
    problems.append(reason)


def _refuse_world_writable(place: Path) -> None:
    if not place.exists():
        return
    if place.stat().st_mode & stat.S_IWOTH:
        raise ConfigError(f"{place} can be changed by anybody and is not trusted: chmod o-w {place}")
