"""The page in a real browser: loads, is live, runs nothing of what devices say, works by keyboard and on a phone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeloop.telemetry.alerts.rules import AlertSettings, Rule
from edgeloop.telemetry.collector import CollectorHandle, start_collector
from support.browsing import chromium, visit
from support.collecting import batch_of, make_report, with_event

pytestmark = pytest.mark.slow

PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True}
HOSTILE = '<img src=x onerror=alert(1)>"\\${}/..%2f#?'
NASTY = "<script>document.title='taken'</script>"
LONG = "w" * 120
STICKS_OUT = "Math.max(0, document.documentElement.scrollWidth - innerWidth)"
INKED = """(() => {
  const canvas = document.querySelector(".heat canvas");
  const { data } = canvas.getContext("2d").getImageData(60, 20, canvas.width - 70, canvas.height - 50);
  let inked = 0;
  for (let i = 0; i < data.length; i += 4) inked += data[i] < 200;
  return inked;
})()"""
RIGHT_TO_LEFT = "אבג-pi-العربية"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[CollectorHandle]:
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}") as handle:
        yield handle


def rows(page: Any) -> list[str]:
    return page.locator("#devices tr th a").all_inner_texts()


def test_an_empty_collector_says_how_to_begin(browser: Any, collector: CollectorHandle) -> None:
    with visit(browser, collector.url) as seen:
        seen.page.get_by_text("No reports yet").wait_for()
        assert seen.complaints == []


def test_it_is_live_without_loading_again(browser: Any, collector: CollectorHandle) -> None:
    with visit(browser, collector.url) as seen:
        seen.page.get_by_text("No reports yet").wait_for()
        collector.ingest.handle(batch_of(make_report(1)))
        seen.page.locator("#devices tr").wait_for()
        seen.page.get_by_text("live", exact=True).wait_for()
        collector.ingest.handle(
            batch_of(with_event(make_report(2, gauges={"throttle_flags": 4.0, "temperature_c": 81.0})))
        )
        seen.page.locator("#devices .badge", has_text="throttled").wait_for()
        row = seen.page.locator("#devices tr").inner_text()
        assert "81 °C" in row
        assert "not edgetpu" in row
        assert "fallback: edgetpu -> xnnpack" in row
        seen.page.locator("footer", has_text="1 device · 2 reports · 40 inferences").wait_for()
        assert seen.complaints == []


def test_what_devices_say_is_text(browser: Any, collector: CollectorHandle) -> None:
    fields = {"bundle": NASTY, "variant": NASTY, "delegate_ran": NASTY, "runtime": NASTY}
    hostile = with_event(make_report(1, device=HOSTILE, **fields), kind=NASTY, detail=NASTY)
    collector.ingest.handle(batch_of(hostile))
    collector.ingest.handle(batch_of(make_report(1, device=LONG), make_report(1, device=RIGHT_TO_LEFT)))
    with visit(browser, collector.url) as seen:
        seen.page.locator("#devices tr").nth(2).wait_for()
        assert {HOSTILE, LONG, RIGHT_TO_LEFT} == set(rows(seen.page))
        assert seen.page.locator("main img, main script").count() == 0
        assert seen.page.title() == "edgeloop telemetry"
        assert seen.complaints == []


def test_sort_filter_search_and_pages(browser: Any, collector: CollectorHandle) -> None:
    reports = [make_report(1, device=f"pi-{n:03d}", gauges={"temperature_c": 40.0 + n / 4}) for n in range(120)]
    collector.ingest.handle(batch_of(*reports))
    collector.ingest.handle(
        batch_of(make_report(1, device="hot", gauges={"temperature_c": 85.0, "throttle_flags": 4.0}))
    )
    with visit(browser, collector.url) as seen:
        page = seen.page
        page.get_by_text("1–50 of 121").wait_for()
        page.get_by_role("button", name="Board").click()
        page.locator("#devices tr:first-child", has_text="hot").wait_for()
        assert page.locator("th[aria-sort=descending]").inner_text().startswith("Board")
        page.get_by_role("button", name="Last").click()
        page.get_by_text("101–121 of 121").wait_for()
        page.get_by_role("button", name="Throttled").click()
        page.get_by_text("1–1 of 1").wait_for()
        assert rows(page) == ["hot"]
        page.get_by_role("button", name="Throttled").click()
        page.get_by_label("Search").fill("PI-01 int8")
        page.get_by_text("1–10 of 10").wait_for()
        assert sorted(rows(page)) == [f"pi-{n:03d}" for n in range(10, 20)]
        page.get_by_label("Search").fill("nothing like that")
        page.get_by_text("No device matches").wait_for()
        assert seen.complaints == []


def test_nothing_sticks_out_on_a_phone(browser: Any, collector: CollectorHandle) -> None:
    collector.ingest.handle(batch_of(with_event(make_report(1, device=LONG, bundle="b" * 100)), make_report(1)))
    with visit(browser, collector.url, **PHONE) as seen:
        seen.page.locator("#devices tr").nth(1).wait_for()
        assert seen.page.evaluate(STICKS_OUT) == 0
        assert seen.complaints == []


def test_the_theme_is_the_systems_until_one_is_chosen(browser: Any, collector: CollectorHandle) -> None:
    with visit(browser, collector.url, color_scheme="dark") as seen:
        ground = "getComputedStyle(document.body).backgroundColor"
        seen.page.get_by_text("No reports yet").wait_for()
        dark = seen.page.evaluate(ground)
        seen.page.get_by_role("button", name="light and dark").click()
        assert seen.page.evaluate(ground) != dark
        seen.page.reload()
        assert seen.page.evaluate(ground) != dark, "it is remembered"
        assert seen.complaints == []


def test_it_says_since_when_nothing_came(browser: Any, collector: CollectorHandle) -> None:
    collector.store.insert([make_report(1)], received_s=time.time() - 200)
    with visit(browser, collector.url) as seen:
        seen.page.get_by_text("last report 3 min ago").wait_for()
        seen.page.get_by_role("button", name="Silent").locator("b", has_text="1").wait_for()


def test_stopping_does_not_wait_for_open_pages(browser: Any, collector: CollectorHandle) -> None:
    with visit(browser, collector.url) as seen:
        seen.page.get_by_text("No reports yet").wait_for()
        began = time.monotonic()
        collector.stop()
        assert time.monotonic() - began < 60


def test_by_keyboard_into_a_device_and_back(browser: Any, collector: CollectorHandle) -> None:
    now = time.time()
    for seq in range(1, 6):
        reports = [make_report(seq, device=name, time_s=now - 60 * (6 - seq)) for name in ("pi-1", HOSTILE, "pi-2")]
        collector.ingest.handle(batch_of(*reports))
    collector.ingest.handle(batch_of(with_event(make_report(6, device=HOSTILE, time_s=now))))
    with visit(browser, collector.url) as seen:
        page = seen.page
        page.locator("#devices tr").nth(2).wait_for()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.locator("#devices tr").first.focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowUp")
        assert page.evaluate("document.activeElement.querySelector('a').textContent") == HOSTILE, "the first by name"
        page.keyboard.press("Enter")
        page.locator("h2", has_text=HOSTILE).wait_for()
        page.locator(".u-over").first.wait_for()
        assert page.locator(".uplot").count() >= 3
        assert page.locator("canvas[role=img]").get_attribute("aria-label").startswith("invoke")
        assert "fallback" in page.locator(".events").inner_text()
        assert page.evaluate(INKED) > 50, "the heat map is drawn"
        page.keyboard.press("Escape")
        page.locator("#devices tr").nth(2).wait_for()
        page.wait_for_function("document.activeElement.matches('#devices tr')")
        assert page.evaluate("document.activeElement.querySelector('a').textContent") == HOSTILE, "where it was before"
        assert seen.complaints == []


def test_the_other_views(browser: Any, collector: CollectorHandle) -> None:
    now = time.time()
    for seq in range(1, 4):
        old = [make_report(seq, device=f"old-{n}", version=2, time_s=now - 60) for n in range(3)]
        new = [make_report(seq, device=f"new-{n}", version=3, bundle="ic", time_s=now - 60) for n in range(2)]
        collector.ingest.handle(batch_of(*old, *new))
    for width in (1300, 360):
        with visit(browser, collector.url + "/#/rollout", viewport={"width": width, "height": 800}) as seen:
            page = seen.page
            page.get_by_role("link", name="v2").wait_for()
            assert "60 %" in page.locator("main").inner_text()
            page.get_by_role("link", name="v2").click()
            page.get_by_text("Both versions").wait_for()
            page.get_by_text("Slowest devices").wait_for()
            assert page.evaluate(STICKS_OUT) == 0
            page.get_by_role("link", name="Latency").click()
            page.get_by_label("Model").wait_for()
            page.get_by_label("Model").select_option(label="ic v3")
            page.get_by_role("button", name="24 hours").click()
            page.locator("[data-key='span-24h'][aria-pressed=true]").wait_for()
            page.locator(".uplot").nth(1).wait_for()
            assert page.evaluate(STICKS_OUT) == 0
            assert seen.complaints == []


def test_what_fires_is_on_the_page_until_it_is_over(browser: Any, tmp_path: Path) -> None:
    hot = Rule("too <b>hot</b>", "temperature_c", above=80.0, for_s=0.0)
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}", alerts=AlertSettings((hot,))) as collector:
        collector.ingest.handle(batch_of(make_report(1, gauges={"temperature_c": 90.0}), make_report(1, device="cool")))
        with visit(browser, collector.url) as seen:
            page = seen.page
            page.locator("#devices .badge", has_text="too <b>hot</b>").wait_for()
            page.get_by_role("button", name="Alerts").click()
            page.get_by_text("1–1 of 1").wait_for()
            page.get_by_role("link", name="Alerts 1").click()
            page.locator("tr", has_text="90 °C, above 80").get_by_text("firing").wait_for()
            collector.ingest.handle(batch_of(make_report(2, gauges={"temperature_c": 40.0})))
            page.get_by_text("resolved").wait_for()
            assert seen.complaints == []


def test_a_hostile_device_cannot_break_its_own_page(browser: Any, collector: CollectorHandle) -> None:
    names = {"constructor": 1.0, "__proto__": 2.0, "toString": 3.0, NASTY: 4.0}
    fields = {"device": LONG, "bundle": "b" * 120, "variant": "v" * 120, "delegate_ran": "d" * 120, "gauges": names}
    counts = {"constructor": 1, "__proto__": 2, NASTY: 3}
    report = make_report(1, **fields, counters=counts, time_s=time.time(), runtime="r" * 120)
    collector.ingest.handle(batch_of(with_event(report, kind="constructor", detail="x" * 240)))
    with visit(browser, f"{collector.url}/#/device/{LONG}", **PHONE) as seen:
        seen.page.locator(".uplot").first.wait_for()
        seen.page.locator("dt", has_text="constructor").wait_for()
        assert seen.page.evaluate(STICKS_OUT) == 0
        seen.page.goto(f"{collector.url}/#/model/{'b' * 120}/3")
        seen.page.get_by_text("Slowest devices").wait_for()
        assert seen.page.evaluate(STICKS_OUT) == 0
        assert seen.complaints == []
        seen.page.goto(f"{collector.url}/#/device/%E0%A4%A")
        seen.page.locator("#devices tr").wait_for()
        seen.page.goto(f"{collector.url}/#/device/nobody")
        seen.page.get_by_text("no report of this device").wait_for()


def test_opening_a_device_while_a_search_waits_leaves_no_stream_behind(
    browser: Any, collector: CollectorHandle
) -> None:
    """A browser opens six connections to a collector: with six streams left behind the page shows nothing any more."""
    collector.ingest.handle(batch_of(make_report(1)))
    with visit(browser, collector.url) as seen:
        for number in range(8):
            seen.page.locator("#devices tr").wait_for(timeout=60_000)
            seen.page.locator("#filter").fill("pi-1"[: 1 + number % 4])
            seen.page.evaluate("location.hash = '#/rollout'")
            seen.page.wait_for_timeout(200)
            seen.page.evaluate("location.hash = '#/'")
        seen.page.locator("#devices tr").wait_for(timeout=60_000)
        assert seen.complaints == []


def test_a_device_that_nobody_heard_of_is_no_trouble_of_the_collector(browser: Any, collector: CollectorHandle) -> None:
    collector.ingest.handle(batch_of(make_report(1)))
    with visit(browser, f"{collector.url}/#/device/nobody") as seen:
        seen.page.get_by_text("no report of this device").wait_for()
        assert seen.page.locator("#status").get_attribute("class") == "status live"
        assert seen.page.title() == "nobody · edgeloop telemetry"
        seen.page.goto(f"{collector.url}/#/device/pi-1")
        seen.page.locator("h2", has_text="pi-1").wait_for()
        assert seen.page.title() == "pi-1 · edgeloop telemetry"
        seen.page.goto(f"{collector.url}/#/latency")
        seen.page.wait_for_function("document.title === 'Latency · edgeloop telemetry'")


def test_a_small_laptop_sees_the_unit_and_every_column(browser: Any, collector: CollectorHandle) -> None:
    gauges = {"throttle_flags": 4.0, "temperature_c": 81.0}
    reports = [with_event(make_report(n, device="pi-warehouse-12", gauges=gauges)) for n in range(1, 5)]
    collector.ingest.handle(batch_of(*reports))
    with visit(browser, collector.url, viewport={"width": 1280, "height": 800}) as seen:
        seen.page.locator("#devices tr").wait_for()
        heads = seen.page.locator("table.fleet thead th").all_inner_texts()
        assert [head.split("\n")[0].strip(" ▲▼") for head in heads][3:6] == ["p50 ms", "p95 ms", "p99 ms"]
        assert seen.page.locator("#devices td.stages .drawing").is_visible()
        assert seen.page.evaluate(STICKS_OUT) == 0
