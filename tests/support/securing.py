"""Collectors with TLS and credentials for them, as an operator and a device have them."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeloop.telemetry.collector.security.secrets import API, ENROLL
from edgeloop.telemetry.collector.security.security import Security
from edgeloop.telemetry.store import open_store

PASSWORD = "correct horse battery"


def prepare_store(url: str) -> dict[str, str]:
    """Users ann (operator) and vic (viewer); tokens `enroll` (100 uses), `api` (viewer), `root` (operator)."""
    store = open_store(url)
    security = Security.over(store.database)
    security.users.add("ann", PASSWORD, "operator", "test")
    security.users.add("vic", PASSWORD, "viewer", "test")
    made = {
        "enroll": security.create_token(ENROLL, "test", uses=100, group="lab", tags={"site": "berlin"}).text,
        "api": security.create_token(API, "test", subject="prometheus", role="viewer").text,
        "root": security.create_token(API, "test", subject="script", role="operator").text,
    }
    store.close()
    return made


def signing_request() -> tuple[str, bytes]:
    """(CSR, private key), both PEM."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "whatever")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, None)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return request.public_bytes(pem).decode(), private


@dataclass
class Client:
    """Asks a collector over TLS; a connection per question."""

    url: str
    ca: Path
    certificate: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: bytes | str = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """(status, headers in lower case, body)."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if self.certificate is not None:
            context.load_cert_chain(str(self.certificate))
        parts = urlsplit(self.url)
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=60, context=context)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body or None, {**self.headers, **named})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def post_json(self, path: str, data: Any, **headers: str) -> tuple[int, dict[str, Any]]:
        status, _headers, body = self.ask("POST", path, json.dumps(data), Content_Type="application/json", **headers)
        return status, json.loads(body)

    def enroll(self, token: str, device: str, folder: Path) -> Client:
        """A client that is this device, with its certificate."""
        csr, key = signing_request()
        status, said = self.post_json("/v1/enroll", {"device": device, "csr": csr}, Authorization=f"Bearer {token}")
        assert status == 200, said
        path = folder / f"{device}.pem"
        path.write_bytes(key + said["certificate"].encode())
        return Client(self.url, self.ca, path)
