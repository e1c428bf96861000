"""The collector's private CA in a folder: `ca.pem`, `ca.key`, and `server.pem` with the server's key and certificate.

Keys are ECDSA P-256, which browsers and every TLS library take (they do not take Ed25519). A device's own key may be
Ed25519 as well: only this collector ever sees its certificate.
"""

from __future__ import annotations

import datetime
import ipaddress
import socket
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop import paths
from edgeloop.bundle.files import write_atomically
from edgeloop.bundle.trust import fingerprint
from edgeloop.errors import ConfigError, DataError, MissingExtraError, RefusedError, UsageError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

CA_FILE = "ca.pem"
CA_KEY_FILE = "ca.key"
SERVER_FILE = "server.pem"
CA_DAYS = 3650
SERVER_DAYS = 397
DEVICE_DAYS = 90
MAX_CSR_BYTES = 4096
_MAX_FILE_BYTES = 64 << 10
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_SKEW = datetime.timedelta(days=1)  # a clock that is a little behind shall not refuse a new certificate
_MAX_COMMON_NAME = 64  # X.520 ub-common-name


@dataclass(frozen=True)
class CertificateFacts:
    """What people and programs ask of a certificate. Times in seconds since 1970."""

    names: tuple[str, ...]
    not_before_s: float
    not_after_s: float
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "names": list(self.names)}


@dataclass(frozen=True)
class Authority:
    """A folder with a CA. `sign_device` needs its private key; everything else the certificates only."""

    folder: Path

    @classmethod
    def create(cls, folder: Path, hosts: Sequence[str] = ()) -> Authority:
        """Make a CA and a certificate for `hosts`. Raises UsageError where there is one already."""
        x509, _hashes, _serialization, ec = _cryptography()
        made = cls(folder)
        if made.ca_path.exists() or made._key_path.exists():
            raise UsageError(
                f"there is a CA already in {folder}: a new one would lock out every enrolled device",
                hint="edgeloop collect init --renew makes a new server certificate of it",
            )
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"edgeloop collector CA {socket.gethostname()}")
        builder = (
            _builder(name, name, key.public_key(), CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
        )
        certificate = _signed(builder, key, key.public_key())
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(made._key_path, _key_pem(key), mode=0o600, replace=False)
            write_atomically(made.ca_path, _pem(certificate), mode=0o644)
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
            _check_private(path)
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
        return fingerprint(_der(_read_certificate(self.ca_path)))

    @property
    def server(self) -> CertificateFacts:
        return facts_of(_read_certificate(self.server_path))

    @property
    def ca(self) -> CertificateFacts:
        return facts_of(_read_certificate(self.ca_path))

    def renew(self, hosts: Sequence[str] = (), *, days: int = SERVER_DAYS) -> None:
        """A new server certificate. hosts: names and addresses besides loopback's; those of the one before, or this
        machine's name, where none are given."""
        x509, _hashes, _serialization, ec = _cryptography()
        given = tuple(hosts) or (self.server.names if self.server_path.exists() else (socket.gethostname(),))
        names = tuple(dict.fromkeys((*given, *_LOOPBACK_NAMES)))
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(_name(names[0]), self._issuer_name(), key.public_key(), days)
            .add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        )
        certificate = self._sign(builder)
        try:
            write_atomically(self.server_path, _key_pem(key) + _pem(certificate), mode=0o600)
        except OSError as error:
            raise UsageError(f"cannot write {self.server_path}: {error.strerror}") from error

    def sign_device(self, device: str, csr_pem: str, *, days: float = DEVICE_DAYS) -> tuple[str, CertificateFacts]:
        """(a client certificate as PEM, its facts) for the key of a certificate signing request. Nothing else of the
        request counts: the name is the caller's. DataError for one that is no sound request."""
        x509, _hashes, _serialization, ec = _cryptography()
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
            _builder(_name(device), self._issuer_name(), key, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        )
        certificate = self._sign(builder)
        return _pem(certificate).decode("ascii"), facts_of(certificate)

    def _issuer_name(self) -> Any:
        return _read_certificate(self.ca_path).subject

    def _sign(self, builder: Any) -> Any:
        _x509, _hashes, serialization, ec = _cryptography()
        _check_private(self._key_path)
        try:
            key = serialization.load_pem_private_key(_read(self._key_path), password=None)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{self._key_path} is not a private key") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError(f"{self._key_path} is not an ECDSA key")
        return _signed(builder, key, key.public_key())


def facts_of(certificate: Certificate) -> CertificateFacts:
    x509, _hashes, _serialization, _ec = _cryptography()
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        alternative = ()
    return CertificateFacts(
        names=tuple(str(name.value) for name in alternative),
        not_before_s=_moment(certificate, "not_valid_before"),
        not_after_s=_moment(certificate, "not_valid_after"),
        sha256=sha256_of(_der(certificate)),
    )


def sha256_of(certificate_der: bytes) -> str:
    """By which the registry knows a device's certificate: 64 hex digits."""
    import hashlib

    return hashlib.sha256(certificate_der).hexdigest()


def default_folder() -> Path:
    """Where the CA is unless somebody says otherwise."""
    return paths.config_dir() / "collector"


def check_hosts(hosts: Iterable[str]) -> None:
    """UsageError for what no certificate can be made for."""
    for host in hosts:
        _general_name(host)


def _moment(certificate: Certificate, name: str) -> float:
    aware = getattr(certificate, f"{name}_utc", None)  # cryptography >= 42
    if aware is None:
        aware = getattr(certificate, name).replace(tzinfo=datetime.timezone.utc)
    return float(aware.timestamp())


def _builder(subject: Any, issuer: Any, public_key: Any, days: float) -> Any:
    x509, _hashes, _serialization, _ec = _cryptography()
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    ends = now + datetime.timedelta(days=days)
    begins = min(now, ends) - _SKEW
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _signed(builder: Any, key: Any, issuer_key: Any) -> Any:
    x509, hashes, _serialization, _ec = _cryptography()
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key)
    return builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256())


def _key_usage(*, signs_certificates: bool) -> Any:
    x509, _hashes, _serialization, _ec = _cryptography()
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _name(text: str) -> Any:
    x509, _hashes, _serialization, _ec = _cryptography()
    return x509.Name(
        [x509.NameAttribute(x509.NameOID.COMMON_NAME, text.encode()[:_MAX_COMMON_NAME].decode(errors="ignore"))]
    )


def _general_name(host: str) -> Any:
    x509, _hashes, _serialization, _ec = _cryptography()
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        encoded = host.encode("idna").decode("ascii")
    except UnicodeError:
        encoded = ""
    if not encoded or any(not (c.isalnum() or c in "-._*") for c in encoded):
        raise UsageError(f"--host {host!r} is no name and no address", hint="for example --host collector.local")
    return x509.DNSName(encoded)


def _pem(certificate: Any) -> bytes:
    _x509, _hashes, serialization, _ec = _cryptography()
    text: bytes = certificate.public_bytes(serialization.Encoding.PEM)
    return text


def _der(certificate: Any) -> bytes:
    _x509, _hashes, serialization, _ec = _cryptography()
    data: bytes = certificate.public_bytes(serialization.Encoding.DER)
    return data


def _key_pem(key: Any) -> bytes:
    _x509, _hashes, serialization, _ec = _cryptography()
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint="edgeloop collect init makes it") from error


def _read_certificate(path: Path) -> Certificate:
    x509, _hashes, _serialization, _ec = _cryptography()
    text = _read(path)
    try:
        found: Certificate = x509.load_pem_x509_certificate(text)
    except ValueError as error:
        raise ConfigError(f"{path} holds no certificate") from error
    return found


def _check_private(path: Path) -> None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint="edgeloop collect init makes it") from error
    if mode & 0o077:
        raise RefusedError(f"{path} can be read by others (mode {mode:04o})", hint=f"chmod 600 {path}")


def _cryptography() -> tuple[Any, Any, Any, Any]:
    """(x509, hashes, serialization, ec). Raises MissingExtraError."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise MissingExtraError("a collector with TLS", "keys") from error
    return x509, hashes, serialization, ec
