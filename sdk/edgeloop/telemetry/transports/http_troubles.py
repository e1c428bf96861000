"""What went wrong between a device and an HTTP collector, in one line with the next step."""

from __future__ import annotations

import http.client
import ssl
import time

from edgeloop.telemetry.transports import NotAcknowledgedError
from edgeloop.telemetry.wire.values import tidy

_HINTS = {
    401: "edgeloop-agent enroll URL --token TOKEN",
    403: "the collector does not take reports from here",
    404: "is it an edgeloop collector?",
    413: "the batch is too large for it",
    429: "it asks to be left alone for a while; reports are kept",
    503: "its store is not available; reports are kept",
}
_BLAMES_BATCH = frozenset({400, 413, 422, 500})
_MAX_RETRY_AFTER_S = 3600
_NOT_YET_VALID, _EXPIRED, _OTHER_NAME, _OTHER_ADDRESS = 9, 10, 62, 64  # OpenSSL's X509_V_ERR_...
_KEPT = "reports are kept until it is back"


def refused_batch(shown: str, status: int, reason: str | None, retry_after: str | None) -> NotAcknowledgedError:
    """An answer that is no acknowledgement. reason: the collector's own words, made fit to be shown."""
    words = f": {reason}" if reason else ""
    waits = retry_after is not None and retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 10
    return NotAcknowledgedError(
        f"{shown} answered {status} to a batch of reports{words}",
        hint=_HINTS.get(status),
        blames_batch=status in _BLAMES_BATCH,
        retry_after_s=float(min(int(retry_after or 0), _MAX_RETRY_AFTER_S)) if waits else 0.0,
    )


def failed(shown: str, error: Exception, *, tls: bool, ca_flag: str = "?ca=FILE") -> NotAcknowledgedError:
    """No answer at all. ca_flag: how a CA is given here."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate(shown, error, ca_flag)
    if isinstance(error, ssl.SSLError):
        return _handshake(shown, error)
    # A stranger's words may be in the error.
    text = "no answer in time" if isinstance(error, TimeoutError) else tidy(str(error)) or type(error).__name__
    hint = _KEPT
    if not tls and isinstance(error, http.client.RemoteDisconnected | ConnectionResetError):
        hint = f"if the collector has TLS, say https://; {_KEPT}"
    return NotAcknowledgedError(f"{shown} is not reachable: {text}", hint=hint)


def _certificate(shown: str, error: ssl.SSLCertVerificationError, ca_flag: str) -> NotAcknowledgedError:
    here = time.strftime("%Y-%m-%d", time.gmtime())
    if error.verify_code == _NOT_YET_VALID:
        text = f"not valid yet: this device's clock says {here}"
        hint = "set the clock (timedatectl), or let systemd-timesyncd do it; reports are kept until then"
    elif error.verify_code == _EXPIRED:
        text = f"it has expired (this device's clock says {here})"
        hint = "on the collector: edgeloop collect init --renew"
    elif error.verify_code in (_OTHER_NAME, _OTHER_ADDRESS):
        text = "it is for another name"
        hint = "on the collector: edgeloop collect init --renew --host NAME, with the name that is in the URL"
    else:
        text = tidy(error.verify_message)
        hint = f"give the collector's CA with {ca_flag}"
    return NotAcknowledgedError(f"{shown}: its certificate was refused: {text}", hint=hint)


def _handshake(shown: str, error: ssl.SSLError) -> NotAcknowledgedError:
    reason = error.reason or ""
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        return NotAcknowledgedError(f"{shown} does not speak TLS", hint="say http:// if it has none")
    if "ALERT" in reason and any(word in reason for word in ("CERTIFICATE", "UNKNOWN_CA", "DECRYPT_ERROR")):
        words = reason.partition("ALERT_")[2].replace("_", " ").lower()
        return NotAcknowledgedError(
            f"{shown} refused this device's certificate: {words}",
            hint="enroll this device again: edgeloop-agent enroll URL --token TOKEN",
        )
    if isinstance(error, ssl.SSLEOFError):
        return NotAcknowledgedError(
            f"{shown} ended the TLS handshake",
            hint="if this device's certificate has expired: edgeloop-agent enroll URL --token TOKEN",
        )
    text = reason.replace("_", " ").lower() or tidy(str(error))
    return NotAcknowledgedError(f"{shown}: TLS failed: {text}", hint=_KEPT)
