"""One POST to a webhook, signed. The body and its signature are pure; `post` is the I/O."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import ssl
import urllib.error
import urllib.request
from typing import Any

from edgeloop.errors import DeviceError
from edgeloop.telemetry.alerts.book import Alert
from edgeloop.telemetry.alerts.rules import Webhook
from edgeloop.telemetry.store.shown import only_host
from edgeloop.version import VERSION

SIGNATURE_HEADER = "X-Edgeloop-Signature"
TIMESTAMP_HEADER = "X-Edgeloop-Timestamp"
DELIVERY_HEADER = "X-Edgeloop-Delivery"


def body_of(alert: Alert, *, fired: bool) -> bytes:
    """JSON: version, id, state ("firing" or "resolved"), rule, severity, device, bundle, text, value, fired_s,
    resolved_s (null while it fires)."""
    data: dict[str, Any] = {"version": 1, "state": "firing" if fired else "resolved", **alert.to_dict()}
    del data["told_fired"], data["told_resolved"]
    data["resolved_s"] = None if fired else alert.resolved_s
    return json.dumps(data).encode()


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """`sha256=` and the HMAC-SHA256 of `TIMESTAMP.BODY`: who has the secret can tell our calls, and old ones."""
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Only the configured address is called: what answers there does not name another."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


def post(webhook: Webhook, alert: Alert, *, fired: bool, now_s: float) -> None:
    """DeviceError unless the receiver answers with a 2xx in time."""
    body, timestamp = body_of(alert, fired=fired), str(int(now_s))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"edgeloop/{VERSION}",
        TIMESTAMP_HEADER: timestamp,
        DELIVERY_HEADER: f"{alert.id}-{'firing' if fired else 'resolved'}",
    }
    if webhook.secret:
        headers[SIGNATURE_HEADER] = signature(webhook.secret, timestamp, body)
    request = urllib.request.Request(webhook.url, body, headers, method="POST")
    try:
        context = ssl.create_default_context(cafile=webhook.ca or None)
        opener = urllib.request.build_opener(_NoRedirects, urllib.request.HTTPSHandler(context=context))
        with opener.open(request, timeout=webhook.timeout_s) as answer:
            answer.read(1024)
    except urllib.error.HTTPError as error:
        raise DeviceError(f"webhook {only_host(webhook.url)} answered {error.code}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise DeviceError(f"webhook {only_host(webhook.url)} is not reachable: {reason}") from error
