"""The page with many devices, in a real browser: first paint, and from an acknowledged report to its row.

python tests/benchmarks/page.py [--devices 10000] [--updates 200] [--loads 10] [--viewers 40]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edgeloop.telemetry.report import Report
from edgeloop.telemetry.transports import Transport, open_transport
from edgeloop.telemetry.wire.codec import MAX_BATCH, encode_report
from support.browsing import chromium, visit
from support.collecting import collector_process, make_report

_WATCH = """
window.shown = {}; window.longest = [];
new PerformanceObserver((list) => list.getEntriesByName("update").forEach((e) => longest.push(e.duration)))
  .observe({ entryTypes: ["measure"] });
new MutationObserver(() => {
  const cell = document.querySelector("#devices tr .board");
  if (cell && !(cell.textContent in shown)) shown[cell.textContent] = performance.timeOrigin + performance.now();
}).observe(document.getElementById("devices"), { childList: true, subtree: true, characterData: true });
"""


def percentiles(values: list[float]) -> dict[str, float]:
    """p50, p95 and the most, with n."""
    ordered = sorted(values)
    at = [round(ordered[min(int(len(ordered) * p), len(ordered) - 1)], 1) for p in (0.5, 0.95)]
    return {"n": len(ordered), "p50": at[0], "p95": at[1], "max": round(ordered[-1], 1)}


def fill(transport: Transport, url: str, devices: int) -> Report:
    """A report of every device, in the collector and in its table."""
    template = make_report(1)
    for start in range(0, devices, MAX_BATCH):
        some = range(start, min(start + MAX_BATCH, devices))
        transport.send([encode_report(replace(template, device=f"pi-{n:05d}")) for n in some])
    while asked(url)["summary"]["rows"] < devices:
        time.sleep(0.1)
    return template


def asked(url: str, query: str = "") -> dict[str, Any]:
    """`/v1/fleet`."""
    with urllib.request.urlopen(f"{url}/v1/fleet?{query}", timeout=30) as answer:
        return json.load(answer)


def load_times(browser: object, url: str, loads: int) -> dict[str, dict[str, float]]:
    """Of a fresh profile each: first contentful paint, and until the rows are there."""
    paints, rows = [], []
    for _ in range(loads):
        with visit(browser, url) as seen:
            seen.page.locator("#devices tr").nth(49).wait_for()
            rows.append(seen.page.evaluate("performance.getEntriesByName('update')[0].startTime"))
            paints.append(seen.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
            assert seen.complaints == []
    return {"first_contentful_paint_ms": percentiles(paints), "first_rows_ms": percentiles(rows)}


def update_times(
    browser: object, url: str, transport: Transport, template: Report, updates: int, base: int
) -> dict[str, object]:
    """A report of the first row's device at a time: from its acknowledgement to the changed row in the document.

    base: temperatures from here up and numbers of the reports; higher than in any run before.
    """
    with visit(browser, url) as seen:
        seen.page.locator("#devices tr").nth(49).wait_for()
        seen.page.evaluate(_WATCH)
        sent = {}
        for n in range(updates):
            report = replace(template, device="pi-00000", seq=base + n, gauges={"temperature_c": float(base + n)})
            transport.send([encode_report(report)])
            sent[base + n] = time.time() * 1000
            time.sleep(0.25)
        time.sleep(1.0)
        shown = {int(text.split()[0]): at for text, at in seen.page.evaluate("shown").items() if text != "–"}
        # A newer one that came before it was drawn counts as it.
        took = [min(at for value, at in shown.items() if value >= wanted) - was for wanted, was in sent.items()]
        script = seen.page.evaluate("longest")
    return {"report_to_row_ms": percentiles(took), "script_per_update_ms": percentiles(script)}


def keep_reporting(url: str, devices: int, interval_s: float) -> None:
    """Every device but the first once in `interval_s`, spread evenly; until it is killed."""
    transport, template, seq, batch = open_transport(url), make_report(1), 10_000, 20
    while True:
        seq += 1
        began = time.monotonic()
        for start in range(0, devices, batch):
            some = range(max(start, 1), min(start + batch, devices))
            transport.send([encode_report(replace(template, device=f"pi-{n:05d}", seq=seq)) for n in some])
            time.sleep(max(0.0, began + interval_s * (start + batch) / devices - time.monotonic()))


def look_on(url: str, viewers: int) -> None:
    """So many other pages' streams, read as fast as they come; until it is killed. Says when all are open."""

    async def opened(number: int) -> asyncio.StreamReader:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        head = f"GET /v1/stream?offset={number % 20 * 50} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n"
        writer.write(head.encode())
        status = await reader.readline()
        if b"200" not in status:
            raise SystemExit(f"viewer {number + 1}: {status!r}")
        return reader

    async def drain(reader: asyncio.StreamReader) -> None:
        while await reader.read(1 << 16):
            pass

    async def all_of_them() -> None:
        readers = [await opened(number) for number in range(viewers)]
        print("open", flush=True)
        await asyncio.gather(*map(drain, readers))

    asyncio.run(all_of_them())


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--loads", type=int, default=10)
    parser.add_argument(
        "--interval", type=float, default=10.0, help="seconds between a device's reports in the background"
    )
    parser.add_argument(
        "--viewers", type=int, default=0, help="streams of other pages meanwhile, as many as one caller may have"
    )
    parser.add_argument("--look-on", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--feed", metavar="URL", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.feed:
        return keep_reporting(args.feed, args.devices, args.interval)
    if args.look_on:
        return look_on(args.look_on, args.viewers)
    with tempfile.TemporaryDirectory() as folder, collector_process(Path(folder) / "x.db") as collector:
        url, transport = collector.url, open_transport(collector.url)
        template = fill(transport, url, args.devices)
        with chromium() as browser:
            found: dict[str, object] = {"devices": args.devices, **load_times(browser, url, args.loads)}
            found["quiet"] = update_times(browser, url, transport, template, args.updates, 1000)
            found["load"] = os.getloadavg()[0]
            if args.viewers:
                options = ["--look-on", url, "--viewers", str(args.viewers)]
                with subprocess.Popen(
                    [sys.executable, __file__, *options], stdout=subprocess.PIPE, text=True
                ) as others:
                    assert others.stdout is not None
                    assert others.stdout.readline() == "open\n"
                    before_cpu, began = cpu_s(collector.process.pid), time.monotonic()
                    seen = update_times(browser, url, transport, template, args.updates, 1000 + 2 * args.updates)
                    share = (cpu_s(collector.process.pid) - before_cpu) / (time.monotonic() - began)
                    others.kill()
                found[f"{args.viewers} other viewers"] = {**seen, "collector_cpu_share": round(share, 2)}
            before = asked(url)["summary"]["reports"], time.monotonic()
            feed = [__file__, "--feed", url, "--devices", str(args.devices), "--interval", str(args.interval)]
            with subprocess.Popen([sys.executable, *feed]) as others:
                time.sleep(5)
                busy = update_times(browser, url, transport, template, args.updates, 1000 + 4 * args.updates)
                others.kill()
            rate = (asked(url)["summary"]["reports"] - before[0]) / (time.monotonic() - before[1])
            found[f"all report every {args.interval:g} s"] = {**busy, "reports_per_s": round(rate)}
        sorting = []
        for _ in range(20):
            began = time.perf_counter()
            asked(url, "order=p95&descending=1")
            sorting.append((time.perf_counter() - began) * 1000)
        found["a_page_by_p95_ms"] = percentiles(sorting)
    print(json.dumps(found, indent=2))
    return None


if __name__ == "__main__":
    main()
