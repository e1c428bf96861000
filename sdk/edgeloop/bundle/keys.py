"""The user's signing key: made on first use, kept in a file that only its owner can read. Host only
(`cryptography`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.bundle.files import write_atomically
from edgeloop.bundle.trust import PublicKey, read_public_keys, user_key_dir, user_trust_dir
from edgeloop.errors import ConfigError, MissingExtraError, RefusedError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PRIVATE_KEY_FILE = "signing.key"
PUBLIC_KEY_FILE = "signing.pub"
_MAX_PRIVATE_KEY_BYTES = 16 << 10


@dataclass(frozen=True)
class SigningKey:
    """A private key in use. `created`: it was made just now, so its fingerprint should be shown."""

    public_key: PublicKey
    sign: Callable[[bytes], bytes] = field(repr=False)
    path: Path
    created: bool = False

    @property
    def fingerprint(self) -> str:
        return self.public_key.fingerprint

    @property
    def public_path(self) -> Path:
        """The .pub file to give to devices."""
        return self.path.with_suffix(".pub")


def load_or_create_signing_key(directory: Path | None = None) -> SigningKey:
    """The signing key in `directory` (default: the user's own), made there if there is none.

    Raises MissingExtraError without `cryptography`, RefusedError where others can read the private key.
    """
    path = (directory or user_key_dir()) / PRIVATE_KEY_FILE
    return load_signing_key(path) if path.exists() else _make(path)


def create_signing_key(directory: Path | None = None, *, replace: bool = False) -> SigningKey:
    """Make a new key. `replace`: an old one is kept beside it under its fingerprint. Raises UsageError if there is
    one.
    """
    path = (directory or user_key_dir()) / PRIVATE_KEY_FILE
    if path.exists():
        if not replace:
            raise UsageError(
                f"there is a signing key already: {path}", hint="edgeloop keys new --replace; the old one is kept aside"
            )
        old = load_signing_key(path)
        aside = path.with_name(f"retired-{old.fingerprint.removeprefix('el:')}")
        path.rename(aside.with_suffix(".key"))
        if old.public_path.exists():  # stays a .pub here, so what was signed so far is still trusted
            old.public_path.rename(aside.with_suffix(".pub"))
    return _make(path)


def make_key_file(path: Path) -> SigningKey:
    """A new key in a file of its own, its .pub beside it: for roles that are not the user's. Raises UsageError where
    the file exists.
    """
    if path.exists() or path.suffix == ".pub":
        why = "it is there already" if path.exists() else "the public half will be called so"
        raise UsageError(f"key file {path}: {why}", hint="choose another name, such as server.key")
    return _make(path)


def load_signing_key(path: Path) -> SigningKey:
    """Read a private key file (PKCS 8 PEM, Ed25519). Raises RefusedError where others can read it, ConfigError if
    damaged.
    """
    private_key_class, serialization = _cryptography()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"signing key {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise RefusedError(
                f"signing key {path} can be read by others (mode {mode:04o})",
                hint=f"chmod 600 {path}; if others may have read it: edgeloop keys new --replace",
            )
        pem = file.read(_MAX_PRIVATE_KEY_BYTES)
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"signing key {path}: not a private key without a passphrase (PKCS 8 PEM)") from error
    if not isinstance(private, private_key_class):
        raise ConfigError(f"signing key {path}: not an Ed25519 key")
    return _signing_key(private, path, created=False)


def trust_key(source: Path) -> tuple[tuple[PublicKey, Path, bool], ...]:
    """Trust the keys of a .pub file from now on: (key, the file that says so, whether it is new) for each. Raises
    ConfigError.
    """
    result = []
    for key in read_public_keys(source):
        path = user_trust_dir() / f"{key.fingerprint.removeprefix('el:')}.pub"
        is_new = not path.exists()
        if is_new:
            write_atomically(path, key.to_text().encode("utf-8"), mode=0o644)
        result.append((key, path, is_new))
    return tuple(result)


def _make(path: Path) -> SigningKey:
    private_key_class, serialization = _cryptography()
    private = private_key_class.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = write_atomically(path, pem, mode=0o600, replace=False)
    except OSError as error:
        raise UsageError(f"cannot write the signing key {path}: {error.strerror}") from error
    # Another process may have been first: then its key is the key.
    return _signing_key(private, path, created=True) if made else load_signing_key(path)


def _signing_key(private: Ed25519PrivateKey, path: Path, *, created: bool) -> SigningKey:
    _, serialization = _cryptography()
    raw = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    key = SigningKey(PublicKey(raw, _comment()), private.sign, path, created)
    _keep_public_file(key)
    return key


def _keep_public_file(key: SigningKey) -> None:
    """The .pub beside the private key says the same key, whatever happened to it."""
    try:
        if any(k.raw == key.public_key.raw for k in read_public_keys(key.public_path)):
            return
    except ConfigError:
        pass
    try:
        write_atomically(key.public_path, key.public_key.to_text().encode("utf-8"), mode=0o644)
    except OSError as error:
        raise UsageError(f"cannot write the public key {key.public_path}: {error.strerror}") from error


def _comment() -> str:
    import getpass
    import socket

    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def _cryptography() -> tuple[type[Ed25519PrivateKey], Any]:
    """(the private key class, the serialization module). Raises MissingExtraError."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise MissingExtraError("signing", "keys") from error
    return Ed25519PrivateKey, serialization
