"""Ed25519 signatures of metadata checked by OpenSSL's libcrypto, which Python brings on every board.

securesystemslib has `cryptography`, which has no wheel for 32-bit boards and is not installed on others, or Python code
that takes some 5 ms on a host for each signature of a poll. Where there is no libcrypto either, that is what is used.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import KEY_FOR_TYPE_AND_SCHEME, Signature, SSlibKey

_LIBRARIES = ("libcrypto.so.3", "libcrypto.so.1.1", "libcrypto.so")
_ED25519 = ("ed25519", "ed25519")
_NID_ED25519 = 1087
_KEY_BYTES, _SIGNATURE_BYTES = 32, 64
_VOID, _BYTES, _SIZE = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t

Verify = Callable[[bytes, bytes, bytes], bool]
"""(public key, signature, message) -> whether it is one."""


class LibcryptoKey(SSlibKey):  # type: ignore[misc]
    """A key of metadata. Raises as `Key.verify_signature` does."""

    def verify_signature(self, signature: Signature, data: bytes) -> None:
        verify = libcrypto_verify() if (self.keytype, self.scheme) == _ED25519 else None
        if verify is None or signature.keyid != self.keyid:
            super().verify_signature(signature, data)
            return
        try:
            public, signed = bytes.fromhex(self.keyval["public"]), bytes.fromhex(signature.signature)
        except ValueError as error:
            raise VerificationError(f"key or signature of {self.keyid} is no hex") from error
        if len(public) != _KEY_BYTES or len(signed) != _SIGNATURE_BYTES or not verify(public, signed, data):
            raise UnverifiedSignatureError(f"Failed to verify signature by {self.keyid}")


def use_libcrypto() -> None:
    """For all metadata that this process reads from now on."""
    KEY_FOR_TYPE_AND_SCHEME[_ED25519] = LibcryptoKey


@functools.cache
def libcrypto_verify() -> Verify | None:
    """None where there is no libcrypto that knows Ed25519 (OpenSSL 1.1.1 or newer)."""
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
            return _verify_by(library)
        except (OSError, AttributeError):
            continue
    return None


def _verify_by(library: ctypes.CDLL) -> Verify:
    def function(name: str, answer: Any, *arguments: Any) -> Any:
        found = getattr(library, name)
        found.restype, found.argtypes = answer, arguments
        return found

    new_key = function("EVP_PKEY_new_raw_public_key", _VOID, ctypes.c_int, _VOID, _BYTES, _SIZE)
    free_key = function("EVP_PKEY_free", None, _VOID)
    new_context = function("EVP_MD_CTX_new", _VOID)
    free_context = function("EVP_MD_CTX_free", None, _VOID)
    begin = function("EVP_DigestVerifyInit", ctypes.c_int, _VOID, _VOID, _VOID, _VOID, _VOID)
    verify = function("EVP_DigestVerify", ctypes.c_int, _VOID, _BYTES, _SIZE, _BYTES, _SIZE)

    def is_valid(public: bytes, signature: bytes, message: bytes) -> bool:
        key, context = new_key(_NID_ED25519, None, public, len(public)), new_context()
        try:
            if not key or not context or begin(context, None, None, None, key) != 1:
                return False
            return bool(verify(context, signature, len(signature), message, len(message)) == 1)
        finally:
            free_context(context)
            free_key(key)

    return is_valid
