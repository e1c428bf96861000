"""Certificates as values: what is in one, how one is built and signed, how it and its key are read and written."""

from __future__ import annotations

import datetime
import ipaddress
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.errors import ConfigError, MissingExtraError, RefusedError, UsageError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_MAX_FILE_BYTES = 64 << 10
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


def facts_of(certificate: Certificate) -> CertificateFacts:
    x509, _hashes, _serialization, _ec = cryptography_parts()
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        alternative = ()
    return CertificateFacts(
        names=tuple(str(name.value) for name in alternative),
        not_before_s=_moment(certificate, "not_valid_before"),
        not_after_s=_moment(certificate, "not_valid_after"),
        sha256=sha256_of(der_of(certificate)),
    )


def sha256_of(certificate_der: bytes) -> str:
    """By which the registry knows a device's certificate: 64 hex digits."""
    import hashlib

    return hashlib.sha256(certificate_der).hexdigest()


def _moment(certificate: Certificate, name: str) -> float:
    aware = getattr(certificate, f"{name}_utc", None)  # cryptography >= 42
    if aware is None:
        aware = getattr(certificate, name).replace(tzinfo=datetime.timezone.utc)
    return float(aware.timestamp())


def builder_for(subject: Any, issuer: Any, public_key: Any, days: float) -> Any:
    """An unsigned certificate for so many days from now, which may be negative: then it is over."""
    x509, _hashes, _serialization, _ec = cryptography_parts()
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


def signed(builder: Any, key: Any, issuer_key: Any) -> Any:
    """By `key`, whose public half is `issuer_key`."""
    x509, hashes, _serialization, _ec = cryptography_parts()
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key)
    return builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256())


def key_usage(*, signs_certificates: bool) -> Any:
    """Of a CA, or of who only proves what it is."""
    x509, _hashes, _serialization, _ec = cryptography_parts()
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def common_name(text: str) -> Any:
    """Cut to what X.509 takes."""
    x509, _hashes, _serialization, _ec = cryptography_parts()
    return x509.Name(
        [x509.NameAttribute(x509.NameOID.COMMON_NAME, text.encode()[:_MAX_COMMON_NAME].decode(errors="ignore"))]
    )


def general_name(host: str) -> Any:
    """An address or a DNS name. UsageError for what is neither."""
    x509, _hashes, _serialization, _ec = cryptography_parts()
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


def pem_of(certificate: Any) -> bytes:
    _x509, _hashes, serialization, _ec = cryptography_parts()
    text: bytes = certificate.public_bytes(serialization.Encoding.PEM)
    return text


def der_of(certificate: Any) -> bytes:
    _x509, _hashes, serialization, _ec = cryptography_parts()
    data: bytes = certificate.public_bytes(serialization.Encoding.DER)
    return data


def key_pem(key: Any) -> bytes:
    _x509, _hashes, serialization, _ec = cryptography_parts()
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem


def read_file(path: Path) -> bytes:
    """ConfigError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint="edgeloop collect init makes it") from error


def read_certificate(path: Path) -> Certificate:
    """ConfigError for a file without one."""
    x509, _hashes, _serialization, _ec = cryptography_parts()
    text = read_file(path)
    try:
        found: Certificate = x509.load_pem_x509_certificate(text)
    except ValueError as error:
        raise ConfigError(f"{path} holds no certificate") from error
    return found


def check_private(path: Path) -> None:
    """RefusedError where others can read it."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint="edgeloop collect init makes it") from error
    if mode & 0o077:
        raise RefusedError(f"{path} can be read by others (mode {mode:04o})", hint=f"chmod 600 {path}")


def cryptography_parts() -> tuple[Any, Any, Any, Any]:
    """(x509, hashes, serialization, ec). Raises MissingExtraError."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise MissingExtraError("a collector with TLS", "keys") from error
    return x509, hashes, serialization, ec
