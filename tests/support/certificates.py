"""Certificates made for one test: a private CA, a server's for loopback, a client's, and an expired one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Certificates:
    """PEM files in a folder."""

    def __init__(self, folder: Path, *, expired: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._ca_key = folder, ec.generate_private_key(ec.SECP256R1())
        self._ca_name = _name("test CA")
        self.ca = self._write("ca", self._sign(self._ca_name, self._ca_key, is_ca=True))
        self.server, self.server_key = self._pair("server", expired)
        self.client, self.client_key = self._pair("client", False)

    def _pair(self, name: str, expired: bool) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        key_file = self._folder / f"{name}.key"
        key_file.write_bytes(pem)
        return self._write(name, self._sign(_name(name), key, expired=expired)), key_file

    def _sign(self, subject: x509.Name, key: Any, *, is_ca: bool = False, expired: bool = False) -> x509.Certificate:
        now = datetime.now(timezone.utc) - timedelta(days=30 if expired else 1)
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._ca_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=20))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(names, critical=False)
            .sign(self._ca_key, hashes.SHA256())
        )

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self._folder / f"{name}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
