"""Alerts: rules from a file, hysteresis, said once when firing and once when over, webhooks that are signed and sent
again."""

from __future__ import annotations

import hmac
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from edgeloop.errors import ConfigError
from edgeloop.telemetry.alerts.book import AlertBook
from edgeloop.telemetry.alerts.evaluate import FORGOTTEN_S, Standing, Subject, evaluate
from edgeloop.telemetry.alerts.keeper import AlertKeeper
from edgeloop.telemetry.alerts.rules import AlertSettings, Rule, Webhook, read_alerts
from edgeloop.telemetry.collector import start_collector
from edgeloop.telemetry.fleet.live import LiveFleet
from edgeloop.telemetry.fleet.row import FleetRow, RowState
from edgeloop.telemetry.store.database import Store
from support.collecting import batch_of, make_report, wait_until

NOW_S = 1_790_000_000.0
SECRET = "s3cret"
FILE = """
[[rule]]
name = "slow"
when = "p95_ms"
above = 20
for_s = 30
[[rule]]
name = "hot"
when = "temperature_c"
above = 80
clear = 75
severity = "critical"
device = "line-*"
[[rule]]
name = "gone"
when = "silent"
intervals = 3
for_s = 0
[[webhook]]
url = "http://127.0.0.1:9/hook"
secret_env = "HOOK_SECRET"
timeout_s = 2
"""


def row(received_s: float = NOW_S, **fields: Any) -> FleetRow:
    state = RowState(1)
    state.add([make_report(1, delegate_asked="xnnpack")], received_s)
    assert state.row is not None
    return replace(state.row, **fields)


def run(rule: Rule, steps: list[tuple[float, FleetRow]], since_s: float = 0.0) -> list[tuple[float, bool]]:
    """(seconds, fires) of every change over the steps."""
    standing: dict[Subject, Standing] = {}
    found = []
    for at, each in steps:
        standing, changes = evaluate([rule], [each], standing, NOW_S + at, watching_since_s=since_s)
        found += [(at, change.fires) for change in changes]
    return found


def test_rules_and_webhooks_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(FILE)
    found = read_alerts(tmp_path / "a.toml", {"HOOK_SECRET": SECRET})
    assert [rule.name for rule in found.rules] == ["slow", "hot", "gone"]
    assert (found.rules[0].cleared_at, found.rules[1].cleared_at) == (18.0, 75.0)
    assert found.webhooks == (Webhook("http://127.0.0.1:9/hook", SECRET.encode(), 2.0),)
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no [[rule]]"),
        ("[[rule]]\nname='x'\nwhen='p96_ms'\nabove=1", "cannot watch"),
        ("[[rule]]\nname='x'\nwhen='p95_ms'", "`above` or `below`"),
        ("[[rule]]\nname='x'\nwhen='p95_ms'\nabove=1\nbelow=2", "`above` or `below`"),
        ("[[rule]]\nname='x'\nwhen='p95_ms'\nabove=1\nclear=2", "clear is above"),
        ("[[rule]]\nname='x'\nwhen='p95_ms'\nabove='1'", "is a number"),
        ("[[rule]]\nname='x'\nwhen='silent'\nabove=1", "no threshold"),
        ("[[rule]]\nname='x'\nwhen='silent'\nseverity='loud'", "severity"),
        ("[[rule]]\nname='x'\nwhen='silent'\nfoo=1", "unknown key"),
        ("[[rule]]\nwhen='silent'", "needs name"),
        ("[rule]\nname='x'", "write [[rule]]"),
        ("[[rule]]\nname='x'\nwhen='silent'\n[[rule]]\nname='x'\nwhen='silent'", "two rules"),
        ("[[rule]]\nname='x'\nwhen='silent'\n[[webhook]]\nurl='ftp://x'", "http://"),
        ("[[rule]]\nname='x'\nwhen='silent'\n[[webhook]]\nurl='http://u:p@x'", "no password"),
        ("[[rule]]\nname='x'\nwhen='silent'\n[[webhook]]\nurl='http://x'\nsecret_env='NOT_THERE'", "NOT_THERE"),
        ("[[rule]]\nname='x'\nwhen='silent'\n[[webhook]]\nurl='http://x'\nsecret_file='none'", "none"),
    ],
)
def test_a_file_that_says_something_wrong_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        read_alerts(tmp_path / "a.toml", {})
    assert words in str(raised.value)


def test_it_fires_after_a_while_and_is_over_after_a_while_with_hysteresis() -> None:
    rule = Rule("slow", "p95_ms", above=20.0, clear=15.0, for_s=30.0)
    ms = [10, 25, 25, 10, 25, 25, 25, 25, 18, 18, 18, 10, 16, 10, 10, 10, 10]
    steps = [(10.0 * n, row(NOW_S + 10.0 * n, p95_ms=float(v))) for n, v in enumerate(ms)]
    assert run(rule, steps) == [(70.0, True), (160.0, False)]


def test_every_state_can_fire_and_end() -> None:
    profile = {"profile_p95_ms": 1.0}
    cases: list[tuple[Rule, dict[str, Any], dict[str, Any]]] = [
        (Rule("x", "fallback", for_s=0), {"delegate_asked": "edgetpu"}, {}),
        (Rule("x", "throttled", for_s=0), {"throttled": True}, {"throttled": False}),
        (Rule("x", "device_alert", for_s=0), {"alerts": {"fallback": 3.0}}, {}),
        (Rule("x", "errors_per_min", above=5.0, for_s=0), {"errors": 2}, {"errors": 0}),
        (Rule("x", "profile_ratio", above=1.5, for_s=0), {**profile, "p95_ms": 2.0}, {**profile, "p95_ms": 1.0}),
        (Rule("x", "inferences_per_s", below=1.0, for_s=0), {"inferences_per_s": 0.5}, {"inferences_per_s": 1.05}),
    ]  # fmt: skip
    for rule, bad, good in cases:
        steps = [(0.0, row(**bad)), (1.0, row(**good)), (2.0, row(**{**good, "inferences_per_s": 2.0}))]
        changes = run(rule, steps)
        assert changes[0] == (0.0, True), rule.when
        assert changes[1:] in ([(1.0, False)], [(2.0, False)]), rule.when


def test_silence_counts_from_the_start_and_is_not_judged_by_old_figures() -> None:
    quiet = row(NOW_S - 100, p95_ms=99.0)
    gone = Rule("gone", "silent", intervals=3.0, for_s=0.0)
    assert run(gone, [(0.0, quiet), (40.0, quiet), (50.0, row(NOW_S + 49))], since_s=NOW_S) == [
        (40.0, True),
        (50.0, False),
    ]
    assert run(gone, [(99.0, row(NOW_S - FORGOTTEN_S))]) == [], "was away long before"
    slow = Rule("slow", "p95_ms", above=20.0, for_s=0.0)
    assert run(slow, [(0.0, quiet)]) == []
    assert run(slow, [(0.0, row(p95_ms=99.0)), (500.0, row(p95_ms=1.0))]) == [(0.0, True)], "neither better nor worse"


def test_rules_are_for_whom_they_name() -> None:
    hot = row(temperature_c=90.0, device="line-1")
    rule = Rule("hot", "temperature_c", above=80.0, for_s=0.0)
    for fields, fires in (({}, 1), ({"device": "line-*"}, 1), ({"device": "roof-*"}, 0), ({"bundle": "other"}, 0)):
        assert len(evaluate([replace(rule, **fields)], [hot], {}, NOW_S)[1]) == fires
    standing, _ = evaluate([rule], [hot], {}, NOW_S)
    (over,) = evaluate([rule], [], standing, NOW_S)[1]
    assert not over.fires, "the row is gone"


def test_it_is_said_once_whoever_restarts_and_whoever_else_watches(store: Store) -> None:
    said: list[str] = []
    settings = AlertSettings((Rule("hot", "temperature_c", above=80.0, for_s=0.0),))
    book = AlertBook(store.database)

    def keeper() -> AlertKeeper:
        fleet = LiveFleet(store, clock=lambda: NOW_S)
        made = AlertKeeper(settings, fleet, book, said.append, clock=lambda: NOW_S)
        made.start()
        return made

    first, second = keeper(), keeper()
    for seq, celsius in ((1, 90.0), (2, 91.0)):
        for each in (first, second):
            each.fleet.observe([make_report(seq, gauges={"temperature_c": celsius})], NOW_S)
            each.fleet.fold()
            each.judge(NOW_S)
    assert [(alert.rule, alert.value) for alert in book.open()] == [("hot", 90.0)]
    assert len(said) == 1
    assert first.fleet.rows()[0].firing == ("hot",)
    third = keeper()
    third.fleet.observe([make_report(3, gauges={"temperature_c": 92.0})], NOW_S)
    third.fleet.fold()
    assert third.judge(NOW_S) == []
    third.fleet.observe([make_report(4, gauges={"temperature_c": 50.0})], NOW_S)
    third.fleet.fold()
    assert [change.fires for change in third.judge(NOW_S + 9)] == [False]
    (alert,) = book.recent()
    assert (alert.fired_s, alert.resolved_s, len(said)) == (NOW_S, NOW_S + 9, 2)
    assert third.fleet.rows()[0].firing == ()


class Receiver:
    """A real HTTP server that answers as it is told and keeps what came."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.came: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.answers.pop(0) if receiver.answers else 204
                receiver.came.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"{receiver.url}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_args: object) -> None:
                return

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


@pytest.mark.slow
def test_a_webhook_hears_once_signed_in_order_and_again_after_failures(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers = [500, 302]
    rules = (Rule("hot", "temperature_c", above=80.0, for_s=0.0, severity="critical"),)
    settings = AlertSettings(rules, (Webhook(receiver.url, SECRET.encode(), 30.0),))
    store, said = f"sqlite:///{tmp_path / 'x.db'}", []
    with start_collector(store, alerts=settings, say=said.append) as collector:
        collector.ingest.handle(batch_of(make_report(1, device="<b>pi</b>", gauges={"temperature_c": 90.0})))
        wait_until(lambda: len(receiver.came) >= 3, "the third call is the one that is taken")
        collector.ingest.handle(batch_of(make_report(2, device="<b>pi</b>", gauges={"temperature_c": 40.0})))
        wait_until(lambda: len(receiver.came) >= 4, "the alert is over")
        wait_until(lambda: not AlertBook(collector.store.database).untold(0.0), "both are known")
    with start_collector(store, alerts=settings, say=said.append):
        time.sleep(1.5)
    assert len(receiver.came) == 4, "nothing again after a restart"
    bodies = [json.loads(body) for _headers, body in receiver.came]
    assert [body["state"] for body in bodies] == ["firing", "firing", "firing", "resolved"]
    assert (bodies[2]["device"], bodies[2]["rule"], bodies[2]["severity"]) == ("<b>pi</b>", "hot", "critical")
    assert bodies[2]["value"] == 90.0
    assert bodies[3]["resolved_s"] >= bodies[3]["fired_s"]
    headers, body = receiver.came[3]
    text = headers["x-edgeloop-timestamp"].encode() + b"." + body
    assert headers["x-edgeloop-signature"] == "sha256=" + hmac.new(SECRET.encode(), text, "sha256").hexdigest()
    assert headers["x-edgeloop-delivery"].endswith("-resolved")
    assert sum("does not take alerts" in line for line in said) == 1
    assert sum("reached again" in line for line in said) == 1


def test_what_could_not_be_told_is_told_after_a_restart(tmp_path: Path, receiver: Receiver) -> None:
    store = f"sqlite:///{tmp_path / 'x.db'}"
    rules = (Rule("hot", "temperature_c", above=80.0, for_s=0.0),)
    away = AlertSettings(rules, (Webhook("http://127.0.0.1:9/hook", b"", 1.0),))
    with start_collector(store, alerts=away) as collector:
        collector.ingest.handle(batch_of(make_report(1, gauges={"temperature_c": 90.0})))
        wait_until(lambda: bool(AlertBook(collector.store.database).open()), "it fires")
    with start_collector(store, alerts=AlertSettings(rules, (Webhook(receiver.url),))):
        wait_until(lambda: bool(receiver.came), "the other address hears of it")
    headers, body = receiver.came[0]
    assert json.loads(body)["state"] == "firing"
    assert "x-edgeloop-signature" not in headers
