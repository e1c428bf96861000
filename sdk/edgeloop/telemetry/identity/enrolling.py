"""Getting a credential, and a new one before it ends. What is asked and kept; how it is sent is the caller's matter."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Protocol

from edgeloop.errors import DeviceError, RefusedError
from edgeloop.telemetry.identity.device_key import DeviceKey
from edgeloop.telemetry.identity.kept import Identity, IdentityFolder, Pending, base_of, make_bearer
from edgeloop.telemetry.wire.values import tidy

ENROLL_PATH, RENEW_PATH = "/v1/enroll", "/v1/renew"
MAX_ANSWER_BYTES = 64 << 10
CERTIFICATE, BEARER = "certificate", "bearer"


class Post(Protocol):
    """Sends a JSON body to a path of the collector: (status, body of the answer)."""

    def __call__(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]: ...


def enroll(folder: IdentityFolder, pending: Pending, url: str, post: Post) -> Identity:
    """Use the token. RefusedError for one that does not count; DeviceError for an answer that makes no sense."""
    headers = {"Authorization": f"Bearer {pending.token}"}
    said = _ask(post, ENROLL_PATH, {"device": pending.device, **pending.wanted()}, headers)
    return _keep(folder, base_of(url), pending, said)


def renew(folder: IdentityFolder, identity: Identity, post: Post) -> Identity:
    """A new key and credential, asked for with the one at hand. Raises as `enroll`."""
    if identity.kind == BEARER:
        made = Pending("", identity.device, bearer=make_bearer())
    else:
        key = DeviceKey.make(identity.device)
        made = Pending("", identity.device, key.private, key.csr)
    return _keep(folder, identity.url, made, _ask(post, RENEW_PATH, made.wanted(), {}))


def _ask(post: Post, path: str, body: Mapping[str, str], headers: Mapping[str, str]) -> dict[str, Any]:
    status, answer = post(path, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})
    said = explained(answer)
    if status in (400, 401, 403, 409):
        raise RefusedError(f"the collector refused: {said.get('error') or status}", hint=said.get("hint"))
    if status == 429:
        raise DeviceError(
            "the collector had too many tries to enroll from this address, and takes none for a while",
            hint="see that the token is right; then again in a minute (a running agent does so by itself)",
        )
    if status != 200:
        raise DeviceError(f"the collector answered {status} to the enrollment", hint="it is tried again")
    return said


def _keep(folder: IdentityFolder, url: str, made: Pending, said: Mapping[str, Any]) -> Identity:
    kind, certificate, expires_s = said.get("kind"), said.get("certificate"), said.get("expires_s")
    wanted = CERTIFICATE if made.csr else BEARER
    if kind != wanted or not isinstance(certificate, str) or not isinstance(expires_s, int | float | None):
        raise DeviceError("the collector's answer to the enrollment is none", hint="is it an edgeloop collector?")
    if wanted == CERTIFICATE and not certificate.startswith("-----BEGIN CERTIFICATE-----"):
        raise DeviceError("the collector's answer has no certificate")
    identity = Identity(url, made.device, wanted, time.time(), expires_s, made.bearer)
    folder.keep(identity, made.key + certificate if made.key else "")
    return identity


def explained(answer: bytes) -> dict[str, Any]:
    """The JSON object in an answer, its `error` and `hint` fit to be shown; {} when there is none."""
    try:
        found = json.loads(answer[:MAX_ANSWER_BYTES])
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    for name in ("error", "hint"):
        found[name] = tidy(found[name]) if isinstance(found.get(name), str) else None
    return found
