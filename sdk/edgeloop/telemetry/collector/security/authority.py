"""The collector's private CA in a folder: `ca.pem`, `ca.key`, and `server.pem` with the server's key and certificate.

Keys are ECDSA P-256, which browsers and every TLS library take (they do not take Ed25519). A device's own key may be
Ed25519 as well: only this collector ever sees its certificate.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeloop import paths
from edgeloop.bundle.files import write_atomically
from edgeloop.bundle.trust import fingerprint
from edgeloop.errors import ConfigError, DataError, UsageError
from edgeloop.telemetry.collector.security.certificates import (
    CertificateFacts,
    builder_for,
    check_private,
    common_name,
    cryptography_parts,
    der_of,
    facts_of,
    general_name,
    key_pem,
    key_usage,
    pem_of,
    read_certificate,
    read_file,
    signed,
)

CA_FILE = "ca.pem"
CA_KEY_FILE = "ca.key"
SERVER_FILE = "server.pem"
CA_DAYS = 3650
SERVER_DAYS = 397
DEVICE_DAYS = 90
MAX_CSR_BYTES = 4096
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Authority:
    """A folder with a CA. `sign_device` needs its private key; everything else the certificates only."""

    folder: Path

    @classmethod
    def create(cls, folder: Path, hosts: Sequence[str] = ()) -> Authority:
        """Make a CA and a certificate for `hosts`. Raises UsageError where there is one already."""
        x509, _hashes, _serialization, ec = cryptography_parts()
        made = cls(folder)
        if made.ca_path.exists() or made._key_path.exists():
            raise UsageError(
                f"there is a CA already in {folder}: a new one would lock out every enrolled device",
                hint="edgeloop collect init --renew makes a new server certificate of it",
            )
        key = ec.generate_private_key(ec.SECP256R1())
        name = common_name(f"edgeloop collector CA {socket.gethostname()}")
        builder = (
            builder_for(name, name, key.public_key(), CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(key_usage(signs_certificates=True), critical=True)
        )
        certificate = signed(builder, key, key.public_key())
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(made._key_path, key_pem(key), mode=0o600, replace=False)
            write_atomically(made.ca_path, pem_of(certificate), mode=0o644)
        except OSError as error:
            raise UsageError(f"cannot write the CA into {folder}: {error.strerror}") from error
        made.renew(hosts)
        return made

    @classmethod
    def load(cls, folder: Path) -> Authority:
        """Raises ConfigError where there is no CA, RefusedError where others can read its keys."""
        found = cls(folder)
        if not found.ca_path.exists():
            raise ConfigError(f"there is no CA in {folder}", hint=f"edgeloop collect init --dir {folder} makes one")
        for path in (found._key_path, found.server_path):
            check_private(path)
        return found

    @property
    def ca_path(self) -> Path:
        return self.folder / CA_FILE

    @property
    def server_path(self) -> Path:
        """Key and certificate in one file, so that both change at once."""
        return self.folder / SERVER_FILE

    @property
    def _key_path(self) -> Path:
        return self.folder / CA_KEY_FILE

    @property
    def fingerprint(self) -> str:
        """The CA's, for people to compare."""
        return fingerprint(der_of(read_certificate(self.ca_path)))

    @property
    def server(self) -> CertificateFacts:
        return facts_of(read_certificate(self.server_path))

    @property
    def ca(self) -> CertificateFacts:
        return facts_of(read_certificate(self.ca_path))

    def renew(self, hosts: Sequence[str] = (), *, days: int = SERVER_DAYS) -> None:
        """A new server certificate. hosts: names and addresses besides loopback's; those of the one before, or this
        machine's name, where none are given."""
        x509, _hashes, _serialization, ec = cryptography_parts()
        given = tuple(hosts) or (self.server.names if self.server_path.exists() else (socket.gethostname(),))
        names = tuple(dict.fromkeys((*given, *_LOOPBACK_NAMES)))
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            builder_for(common_name(names[0]), self._issuer_name(), key.public_key(), days)
            .add_extension(x509.SubjectAlternativeName([general_name(n) for n in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        )
        certificate = self._sign(builder)
        try:
            write_atomically(self.server_path, key_pem(key) + pem_of(certificate), mode=0o600)
        except OSError as error:
            raise UsageError(f"cannot write {self.server_path}: {error.strerror}") from error

    def sign_device(self, device: str, csr_pem: str, *, days: float = DEVICE_DAYS) -> tuple[str, CertificateFacts]:
        """(a client certificate as PEM, its facts) for the key of a certificate signing request. Nothing else of the
        request counts: the name is the caller's. DataError for one that is no sound request."""
        x509, _hashes, _serialization, ec = cryptography_parts()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            if len(csr_pem) > MAX_CSR_BYTES:
                raise ValueError("it is too large")
            request = x509.load_pem_x509_csr(csr_pem.encode("ascii"))
            key = request.public_key()
            sound = request.is_signature_valid
        except Exception as error:  # the parser raises whatever it likes about hostile bytes
            raise DataError("the certificate signing request cannot be read") from error
        is_p256 = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
        if not (isinstance(key, Ed25519PublicKey) or is_p256):
            raise DataError("the certificate signing request has no Ed25519 or P-256 key")
        if not sound:
            raise DataError("the certificate signing request is not signed by its own key")
        builder = (
            builder_for(common_name(device), self._issuer_name(), key, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        )
        certificate = self._sign(builder)
        return pem_of(certificate).decode("ascii"), facts_of(certificate)

    def _issuer_name(self) -> Any:
        return read_certificate(self.ca_path).subject

    def _sign(self, builder: Any) -> Any:
        _x509, _hashes, serialization, ec = cryptography_parts()
        check_private(self._key_path)
        try:
            key = serialization.load_pem_private_key(read_file(self._key_path), password=None)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{self._key_path} is not a private key") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError(f"{self._key_path} is not an ECDSA key")
        return signed(builder, key, key.public_key())


def default_folder() -> Path:
    """Where the CA is unless somebody says otherwise."""
    return paths.config_dir() / "collector"


def check_hosts(hosts: Iterable[str]) -> None:
    """UsageError for what no certificate can be made for."""
    for host in hosts:
        general_name(host)
