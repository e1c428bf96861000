"""Questions to a running collector. Its answers carry reports and histograms as devices sent them, so nothing is lost
on the way, and they are read as strictly as a device's."""

from __future__ import annotations

import http.client
import json
import os
import urllib.request
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qsl, urlencode, urlsplit

from edgeloop.errors import DataError, DeviceError, RefusedError, UsageError
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.identity.enrolling import explained
from edgeloop.telemetry.reading import Latency, Question
from edgeloop.telemetry.report import HEADLINE_STAGE
from edgeloop.telemetry.store.shown import without_secrets
from edgeloop.telemetry.transports.tls import client_context
from edgeloop.telemetry.wire.values import tidy

TOKEN_VARIABLE = "EDGELOOP_TOKEN"
"""Who asks a collector that wants a login: a viewer's token."""

ABSENT_HINT = "is `edgeloop collect` running?"
_TIMEOUT_S = 60.0
_MAX_ANSWER_BYTES = 64 << 20
_PAGE_ROWS = 500
_SHOWN = frozenset({"device", "received_s", "bundle", "stages", "gauges", "counters", "trend_p95_ms", "throttled"})
"""Without these an answer is no collector's."""


_FLEET_ROWS = 200
_ASCENDING = ("device", "bundle", "seen")


class CollectorFailedError(DeviceError):
    """The collector is there, and has a defect that this very request meets."""


class CollectorClient:
    """Requests to a collector: `https://host:8443?ca=ca.pem`. No proxies; the certificate is always verified."""

    def __init__(self, url: str, *, timeout_s: float = _TIMEOUT_S, absent_hint: str = ABSENT_HINT) -> None:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query))
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"not a collector's address: {without_secrets(url)!r}", hint="for example http://127.0.0.1:8080"
            )
        if unknown := set(options) - {"ca"}:
            raise UsageError(f"{without_secrets(url)}: unknown option {min(unknown)!r}", hint="known: ca")
        if parts.username is not None:
            raise UsageError("a collector's address takes no user or password", hint=f"a token: {TOKEN_VARIABLE}=...")
        self.shown = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._timeout_s, self._absent_hint = timeout_s, absent_hint
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({}), _NoRedirects()]
        if parts.scheme == "https":
            handlers.append(urllib.request.HTTPSHandler(context=client_context(options.get("ca"))))
        self._opener = urllib.request.build_opener(*handlers)
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str, query: Mapping[str, Any] | None = None, *, method: str = "GET") -> bytes:
        """The answer's body; a request never has one. DeviceError where there is none, RefusedError where a login is
        missing, DataError for a question that the collector does not understand."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        address = f"{self.shown}{path}" + (f"?{urlencode(given)}" if given else "")
        return self._ask(urllib.request.Request(address, headers=self._headers, method=method))

    def post(self, path: str, body: bytes, content_type: str) -> bytes:
        """The answer's body. Raises as `get`."""
        headers = {**self._headers, "Content-Type": content_type}
        return self._ask(urllib.request.Request(f"{self.shown}{path}", body, headers, method="POST"))

    def _ask(self, request: urllib.request.Request) -> bytes:
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                body: bytes = answer.read(_MAX_ANSWER_BYTES + 1)
        except HTTPError as error:
            raise self._refused(error) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            cause = getattr(error, "reason", error)
            reason = tidy(str(cause)) or type(error).__name__
            raise DeviceError(f"{self.shown} is not reachable: {reason}", hint=self._step(cause, reason)) from error
        if len(body) > _MAX_ANSWER_BYTES:
            raise DeviceError(f"{self.shown} answered more than {_MAX_ANSWER_BYTES >> 20} MiB")
        return body

    def _step(self, cause: object, reason: str) -> str:
        """What to do where there was no answer."""
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            return "the collector's CA: ?ca=ca.pem"
        if any(each in reason for each in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")):
            return "it has no TLS: say http://"
        if self.shown.startswith("http://") and isinstance(cause, ConnectionResetError | http.client.HTTPException):
            return "if it has TLS, say https://"  # RemoteDisconnected is a ConnectionResetError
        return self._absent_hint

    def _refused(self, error: HTTPError) -> Exception:
        body = error.read(1000)
        if error.code == 401:
            return RefusedError(
                f"{self.shown} wants a login",
                hint=f"{TOKEN_VARIABLE}=... in the environment, from edgeloop collect token create --api NAME",
            )
        if error.code == 403:
            words = explained(body)
            reason = f"{self.shown}: {words.get('error') or 'you may not do this'}"
            step = words.get("hint") or "ask an operator"
            return RefusedError(reason, hint=f"{step}; an operator's token: token create --api NAME --role operator")
        said = tidy(body.decode("utf-8", "replace"))
        if error.code == 400:
            return DataError(f"{self.shown}: {said}")
        if error.code == 500:
            return CollectorFailedError(f"{self.shown} failed on what it was sent: its log says why")
        if error.code in (404, 429) and said and said != "Not Found":
            return DeviceError(f"{self.shown}: {said}", hint="try again in a while" if error.code == 429 else None)
        return DeviceError(f"{self.shown} answered {error.code}", hint="is it an edgeloop collector?")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A token goes to the address that was given and nowhere else."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


class RemoteReader:
    """A Reader over a collector's `/v1/export/...`."""

    def __init__(self, url: str) -> None:
        self._client = CollectorClient(url)

    def reports(self, question: Question) -> Iterator[Any]:
        after_id = 0
        while True:
            page = self._stored("reports", question, after_id=after_id, limit=_PAGE_ROWS)
            yield from page
            if len(page) < _PAGE_ROWS:
                return
            after_id = page[-1].id

    def latest(self, question: Question) -> list[Any]:
        return self._stored("devices", question)

    def latency(self, question: Question, by: Sequence[str] = (), stage: str | None = None) -> Latency:
        del stage  # an older collector does not know the word
        answer = self._ask("latency", question, by=",".join(by) or None)
        try:
            return {tuple(map(str, key)): Histogram.from_wire(wire) for key, wire in answer}
        except (TypeError, ValueError, DataError) as error:
            raise self._nonsense() from error

    def events(self, question: Question, kinds: Collection[str], *, after_id: int = 0) -> list[Any]:
        """See Reader."""
        from edgeloop.telemetry.store.rows import StoredEvent

        answer = self._ask("events", question, kinds=",".join(kinds), after_id=after_id)
        try:
            return [StoredEvent(int(n), float(seen), *map(str, texts)) for n, seen, *texts in answer]
        except (TypeError, ValueError) as error:
            raise self._nonsense() from error

    def recent(self, device: str) -> list[Any]:
        return self._stored("recent", Question(), device=device)

    def overview(self, now_s: float) -> Mapping[str, Any]:
        """By the collector's clock, whatever is said of this one's."""
        try:
            found: Mapping[str, Any] = json.loads(self._client.get("/v1/devices"))
            for device in found["devices"]:
                if not set(device) >= _SHOWN or not isinstance(device["stages"], dict):
                    raise self._nonsense()
            _ = float(found["now_s"]), found["totals"]["devices"]
        except (ValueError, LookupError, TypeError) as error:
            raise self._nonsense() from error
        return found

    def ranked(self, order: str, limit: int, bundle: str | None) -> list[dict[str, Any]] | None:
        """See Reader."""
        query = {"order": order, "descending": int(order not in _ASCENDING), "bundle": bundle}
        found: list[dict[str, Any]] = []
        try:
            while len(found) < limit:
                rows_wanted = min(limit - len(found), _FLEET_ROWS)
                page = {**query, "offset": len(found), "limit": rows_wanted}
                answer = json.loads(self._client.get("/v1/fleet", page))
                if answer["offset"] != len(found):  # behind the end
                    break
                rows = {row["id"]: row for row in answer.get("rows", ())}
                found += [_as_device(rows[number]) for number in answer["ids"]]
                if len(answer["ids"]) < rows_wanted:
                    break
        except (ValueError, LookupError, TypeError) as error:
            raise self._nonsense() from error
        return found

    def total(self) -> int | None:
        try:
            return int(json.loads(self._client.get("/v1/fleet", {"limit": 1}))["summary"]["reports"])
        except (ValueError, LookupError, TypeError):
            return None

    def close(self) -> None:
        pass

    def _stored(self, what: str, question: Question, **more: Any) -> list[Any]:
        from edgeloop.telemetry.store.rows import StoredReport
        from edgeloop.telemetry.wire.codec import decode_report

        answer = self._ask(what, question, **more)
        try:
            return [StoredReport(int(number), float(seen), decode_report(body)) for number, seen, body in answer]
        except (TypeError, ValueError, DataError) as error:
            raise self._nonsense() from error

    def _ask(self, what: str, question: Question, **more: Any) -> list[Any]:
        import cbor2

        query = {**asdict(question.selection), "group": question.group, "tag": question.tag, **more}
        body = self._client.get(f"/v1/export/{what}", query)
        try:
            answer = cbor2.loads(body)
        except Exception as error:  # cbor2 raises many kinds for broken input
            raise self._nonsense() from error
        if not isinstance(answer, list):
            raise self._nonsense()
        return answer

    def _nonsense(self) -> DeviceError:
        return DeviceError(f"{self._client.shown} did not answer as a collector does", hint="give its address only")


def _as_device(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `/v1/fleet` in the form of `/v1/devices`, as far as it has it."""
    names = ("n", "p50_ms", "p95_ms", "p99_ms")
    stages = {HEADLINE_STAGE: {name: row[name] for name in names}} if row["n"] else {}
    gauges = {} if row["temperature_c"] is None else {"temperature_c": row["temperature_c"]}
    return {**row, "stages": stages, "gauges": gauges}
