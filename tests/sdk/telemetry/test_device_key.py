"""A device's key and signing request, read by those who have to take them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeloop.errors import DeviceError, RefusedError, UsageError
from edgeloop.telemetry.identity import device_key
from edgeloop.telemetry.identity.device_key import DeviceKey
from edgeloop.telemetry.identity.enrolling import enroll
from edgeloop.telemetry.identity.kept import IdentityFolder, base_of


@pytest.mark.parametrize("name", ["pi-1", "p", "x" * 64, "x" * 65, "ä" * 120, "<b>'\";--", "日本" * 30])
def test_the_request_is_sound_and_of_that_key(name: str) -> None:
    made = DeviceKey.make(name)
    request = x509.load_pem_x509_csr(made.csr.encode())
    key = serialization.load_pem_private_key(made.private.encode(), None)
    assert isinstance(key, Ed25519PrivateKey)
    assert request.is_signature_valid and request.public_key() == key.public_key()
    common_name = request.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    assert name.startswith(str(common_name)) and len(str(common_name).encode()) <= 64
    assert made.private not in repr(made)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_takes_it(tmp_path: Path) -> None:
    (tmp_path / "csr").write_text(DeviceKey.make("pi-1").csr)
    command = ["openssl", "req", "-in", str(tmp_path / "csr"), "-noout", "-verify", "-subject"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "verify OK" in done.stdout + done.stderr and "pi-1" in done.stdout


def test_keys_differ_and_a_planted_token_keeps_its_own(tmp_path: Path) -> None:
    folder = IdentityFolder(tmp_path)
    first = folder.plant("elt-a", "pi-1")
    assert folder.plant("elt-a", "pi-1") == first != folder.plant("elt-b", "pi-1")
    assert "elt-b" not in repr(folder.pending())
    assert folder.plant("elt-b", "pi-1", bearer=True).wanted().keys() == {"bearer_sha256"}


def test_without_openssl_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_key, "_LIBRARIES", ("libnothing.so.0",))
    with pytest.raises(DeviceError, match="no OpenSSL"):
        DeviceKey.make("pi-1")


@pytest.mark.parametrize(("status", "answer", "error", "words"), [
    (200, b"", DeviceError, "is none"), (200, b"[" * 9999, DeviceError, "is none"), (500, b"", DeviceError, "500"),
    (200, json.dumps({"kind": "bearer", "certificate": "", "expires_s": None}).encode(), DeviceError, "is none"),
    (200, json.dumps({"kind": "certificate", "certificate": "x", "expires_s": 1}).encode(), DeviceError, "no cert"),
    (403, json.dumps({"error": "no\x1b[2J\n!", "hint": 7}).encode(), RefusedError, "refused: no"),
    (409, b"\xff", RefusedError, "409"),
])  # fmt: skip
def test_strange_answers_to_an_enrollment(
    tmp_path: Path, status: int, answer: bytes, error: type[Exception], words: str
) -> None:
    folder = IdentityFolder(tmp_path)
    with pytest.raises(error, match=words) as caught:
        enroll(folder, folder.plant("elt-a", "pi-1"), "https://c:1", lambda *_: (status, answer))
    assert str(caught.value).isprintable() and folder.identity() is None and folder.pending() is not None


def test_where_an_identity_counts() -> None:
    assert base_of("https://C.local:8443/x?ca=y") == "https://c.local:8443"
    assert base_of("https://c") == "https://c:443" and base_of("https://[::1]:1") == "https://[::1]:1"
    for wrong in ("http://c:1", "https://", "serial:///dev/x", "https://c:notaport"):
        with pytest.raises(UsageError, match="over https"):
            base_of(wrong)
