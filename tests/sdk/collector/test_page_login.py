"""Logging in with a real browser, where the collector asks for it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edgeloop.telemetry.collector import start_collector
from support.browsing import chromium, visit
from support.collecting import batch_of, make_report
from support.securing import PASSWORD, prepare_store

pytestmark = pytest.mark.slow


def test_the_page_is_behind_a_login_and_back_there_when_the_session_is_over(tmp_path: Path) -> None:
    from edgeloop.telemetry.collector.http_server import Doors
    from edgeloop.telemetry.collector.security.authority import Authority

    url, authority = f"sqlite:///{tmp_path}/t.db", Authority.create(tmp_path / "tls", ["127.0.0.1"])
    prepare_store(url)
    with start_collector(url, "0.0.0.0:0", doors=Doors(authority.folder)) as collector, chromium() as browser:
        collector.ingest.handle(batch_of(make_report(1, time_s=time.time())))
        with visit(browser, collector.url, ignore_https_errors=True, viewport={"width": 360, "height": 740}) as seen:
            page = seen.page
            page.get_by_label("Name").fill("vic")
            page.get_by_label("Password").fill("wrong")
            page.get_by_role("button", name="Log in").click()
            page.get_by_text("is wrong").wait_for()
            seen.complaints.clear()  # the browser says 401 on its console
            page.get_by_label("Name").fill("vic")
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Log in").click()
            page.locator("#devices tr", has_text="pi-1").wait_for()
            page.locator("#devices tr").first.press("Enter")
            page.locator(".uplot").first.wait_for()
            assert seen.complaints == []
            page.get_by_role("button", name="Log out").click()
            page.get_by_label("Password").wait_for()
            page.goto(f"{collector.url}/#/rollout")
            page.get_by_label("Password").wait_for()
