"""No password, token or key of an address is in a title, an error or a log."""

from __future__ import annotations

import pytest

from edgeloop.cli.main import main
from edgeloop.telemetry.alerts.book import Alert
from edgeloop.telemetry.alerts.rules import Webhook
from edgeloop.telemetry.alerts.webhook import post
from edgeloop.telemetry.store.shown import only_host, without_secrets

SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ann:{SECRET}@db:5432/fleet",
        f"postgresql://ann:{SECRET}%40x@db/fleet?sslmode=require",
        f"postgresql://ann:{SECRET}/?@db/fleet",
        f"postgresql://ann@db/fleet?sslmode=require&password={SECRET}",
        f"https://host:8443?ca=ca.pem&token={SECRET}&x=1",
    ],
)
def test_an_address_is_shown_without_what_opens_it(url: str) -> None:
    shown = without_secrets(url)
    assert SECRET not in shown
    assert "***" in shown
    assert SECRET not in only_host(url)


def test_an_address_without_secrets_is_shown_as_it_is() -> None:
    for url in ("sqlite:///a b.db", "postgresql://ann@db/fleet", "https://host:8443?ca=ca.pem", "x.db"):
        assert without_secrets(url) == url


@pytest.mark.parametrize("store", [f"postgresql://ann:{SECRET}@127.0.0.1:port/x",
                                   f"postgresql://127.0.0.1:1/x?password={SECRET}",
                                   f"http://ann:{SECRET}@127.0.0.1:1?what=1"])  # fmt: skip
def test_errors_show_none(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["telemetry", "export", "--store", store]) != 0
    said = "".join(capsys.readouterr())
    assert SECRET not in said
    assert "defect" not in said


def test_a_webhook_that_is_away_is_named_by_its_host() -> None:
    alert = Alert(1, "slow", "pi-1", "ic", "critical", "p95 is 9 ms", 9.0, 1.0, None, False, False)
    with pytest.raises(Exception, match=r"http://127\.0\.0\.1:1/\.\.\. is not reachable") as raised:
        post(Webhook(f"http://127.0.0.1:1/services/{SECRET}", timeout_s=1.0), alert, fired=True, now_s=1.0)
    assert SECRET not in str(raised.value)
