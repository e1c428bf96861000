"""Ed25519 by libcrypto: exactly what `cryptography` takes and refuses."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Key, Signature, SSlibKey

from edgeloop_agent.release.signatures import LibcryptoKey, libcrypto_verify, use_libcrypto

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = PRIVATE.public_key().public_bytes_raw()


def key(public: str = PUBLIC.hex()) -> LibcryptoKey:
    return LibcryptoKey("k", "ed25519", "ed25519", {"public": public})


@given(st.binary(max_size=300), st.integers(0, 63), st.integers(1, 255))
def test_a_signature_holds_and_a_changed_one_does_not(message: bytes, at: int, change: int) -> None:
    signature = PRIVATE.sign(message)
    key().verify_signature(Signature("k", signature.hex()), message)
    wrong = bytearray(signature)
    wrong[at] ^= change
    for one, two in ((bytes(wrong), message), (signature, message + b"x")):
        with pytest.raises(UnverifiedSignatureError):
            key().verify_signature(Signature("k", one.hex()), two)


@pytest.mark.parametrize("signature", ["", "00" * 63, "00" * 65, "00" * 64, "ff" * 64])
def test_what_is_no_signature_is_refused(signature: str) -> None:
    with pytest.raises(UnverifiedSignatureError):
        key().verify_signature(Signature("k", signature), b"message")


@pytest.mark.parametrize(("public", "signature"), [("zz", "00" * 64), (PUBLIC.hex(), "no hex")])
def test_what_is_no_hex_is_refused(public: str, signature: str) -> None:
    with pytest.raises(VerificationError):
        key(public).verify_signature(Signature("k", signature), b"message")


def test_a_key_that_is_none_is_refused() -> None:
    for public in ("", "00" * 31, "00" * 33):
        with pytest.raises(UnverifiedSignatureError):
            key(public).verify_signature(Signature("k", PRIVATE.sign(b"m").hex()), b"m")


def test_a_signature_of_another_key_is_refused() -> None:
    with pytest.raises(VerificationError):
        key().verify_signature(Signature("other", PRIVATE.sign(b"m").hex()), b"m")


def test_keys_of_metadata_are_these() -> None:
    use_libcrypto()
    said = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": PUBLIC.hex()}}
    assert isinstance(Key.from_dict("k", said), LibcryptoKey) and isinstance(key(), SSlibKey)
    assert libcrypto_verify() is not None
