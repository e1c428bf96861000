"""An Ed25519 key and a certificate signing request for it (PKCS 10, RFC 2986 and 8410), by OpenSSL's libcrypto.

The key is made by the library that uses it for TLS later; the few fixed bytes around it are written here.
"""

from __future__ import annotations

import base64
import ctypes
from dataclasses import dataclass, field

from edgeloop.errors import DeviceError

_LIBRARIES = ("libcrypto.so.3", "libcrypto.so.1.1", "libcrypto.so")
_NID_ED25519 = 1087
_KEY_BYTES, _SIGNATURE_BYTES = 32, 64
_ALGORITHM = bytes.fromhex("300506032b6570")  # SEQUENCE { OID 1.3.101.112 }
_PRIVATE_KEY_HEAD = bytes.fromhex("302e020100300506032b657004220420")
_COMMON_NAME = bytes.fromhex("0603550403")
_MAX_COMMON_NAME = 64  # X.520 ub-common-name


@dataclass(frozen=True)
class DeviceKey:
    """Both PEM. The name in the request is for people: the collector goes by what it was told beside it."""

    private: str = field(repr=False)
    csr: str

    @classmethod
    def make(cls, name: str) -> DeviceKey:
        """A new one. DeviceError where there is no libcrypto."""
        with _Ed25519(_libcrypto()) as key:
            public_info = _sequence(_ALGORITHM + _tlv(0x03, b"\0" + key.public))
            common_name = name.encode()[:_MAX_COMMON_NAME].decode(errors="ignore").encode()
            subject = _sequence(_tlv(0x31, _sequence(_COMMON_NAME + _tlv(0x0C, common_name))))
            info = _sequence(b"\x02\x01\x00" + subject + public_info + b"\xa0\x00")
            request = _sequence(info + _ALGORITHM + _tlv(0x03, b"\0" + key.sign(info)))
            return cls(_pem("PRIVATE KEY", _PRIVATE_KEY_HEAD + key.private), _pem("CERTIFICATE REQUEST", request))


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _sequence(content: bytes) -> bytes:
    return _tlv(0x30, content)


def _pem(label: str, data: bytes) -> str:
    text = base64.b64encode(data).decode("ascii")
    lines = "\n".join(text[start : start + 64] for start in range(0, len(text), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"


def _libcrypto() -> ctypes.CDLL:
    for name in _LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise DeviceError("there is no OpenSSL library here to make a key with", hint="sudo apt install libssl3")


class _Ed25519:
    """A fresh key, until the end of the `with`."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._key = ctypes.c_void_p()

    def __enter__(self) -> _Ed25519:
        context = ctypes.c_void_p(self._call("EVP_PKEY_CTX_new_id", _NID_ED25519, None, pointer=True))
        try:
            self._call("EVP_PKEY_keygen_init", context)
            self._call("EVP_PKEY_keygen", context, ctypes.byref(self._key))
        finally:
            self._library.EVP_PKEY_CTX_free(context)
        return self

    def __exit__(self, *_error: object) -> None:
        self._library.EVP_PKEY_free(self._key)

    @property
    def private(self) -> bytes:
        return self._raw("EVP_PKEY_get_raw_private_key")

    @property
    def public(self) -> bytes:
        return self._raw("EVP_PKEY_get_raw_public_key")

    def sign(self, message: bytes) -> bytes:
        context = ctypes.c_void_p(self._call("EVP_MD_CTX_new", pointer=True))
        try:
            self._call("EVP_DigestSignInit", context, None, None, None, self._key)
            signature, size = ctypes.create_string_buffer(_SIGNATURE_BYTES), ctypes.c_size_t(_SIGNATURE_BYTES)
            self._call("EVP_DigestSign", context, signature, ctypes.byref(size), message, ctypes.c_size_t(len(message)))
            return signature.raw
        finally:
            self._library.EVP_MD_CTX_free(context)

    def _raw(self, function: str) -> bytes:
        buffer, size = ctypes.create_string_buffer(_KEY_BYTES), ctypes.c_size_t(_KEY_BYTES)
        self._call(function, self._key, buffer, ctypes.byref(size))
        return buffer.raw

    def _call(self, function: str, *arguments: object, pointer: bool = False) -> int:
        try:
            called = getattr(self._library, function)
        except AttributeError:
            raise DeviceError(
                "this OpenSSL library makes no Ed25519 keys", hint="OpenSSL 1.1.1 or newer does"
            ) from None
        called.restype = ctypes.c_void_p if pointer else ctypes.c_int
        answer: int | None = called(*arguments)
        if not answer or (not pointer and answer != 1):
            raise DeviceError(f"OpenSSL could not make a key ({function})")
        return answer
