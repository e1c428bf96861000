"""Watch the devices in a terminal: latency per stage, the delegate that ran, and how long ago they reported."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from edgeloop.cli._console import Console
from edgeloop.cli._words import counted
from edgeloop.errors import DeviceError, EdgeloopError, MissingExtraError, UsageError
from edgeloop.telemetry.store import DEFAULT_STORE_URL

if TYPE_CHECKING:
    from rich.table import Table

EPILOG = """example:
  edgeloop monitor                                  the store in this folder
  edgeloop monitor --url http://127.0.0.1:8080      a running collector
  edgeloop monitor --once --json"""

_STAGES = ("capture", "preprocess", "invoke", "postprocess", "total")
_STALE_S = 120
_TIMEOUT_S = 10
_MAX_ANSWER_BYTES = 64 * 1024 * 1024

Source = Callable[[], Mapping[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", metavar="URL", help=f"default: {DEFAULT_STORE_URL}")
    parser.add_argument("--url", metavar="URL", help="a running collector instead of a store")
    parser.add_argument("--once", action="store_true", help="print once and end (so it does without a terminal)")
    parser.add_argument("--interval", type=float, metavar="SECONDS", default=2.0, help="default: %(default)s")


def run(args: argparse.Namespace, console: Console) -> int:
    if args.store and args.url:
        raise UsageError("--store and --url are two places", hint="give one of them")
    if not 0.1 <= args.interval <= 3600:
        raise UsageError("--interval is 0.1 to 3600 seconds")
    try:
        from rich.console import Console as RichConsole
        from rich.live import Live
        from rich.text import Text
    except ImportError as error:
        raise MissingExtraError("edgeloop monitor", "collector") from error
    source, where = (_from_url(args.url), args.url) if args.url else _from_store(args.store or DEFAULT_STORE_URL)
    if console.json:
        console.result(source(), "")
        return 0
    terminal = RichConsole()
    if args.once or not sys.stdout.isatty():
        terminal.print(table(source(), where))
        return 0
    shown = table(source(), where)
    with suppress(KeyboardInterrupt), Live(shown, console=terminal, screen=True, auto_refresh=False) as live:
        live.refresh()
        while True:
            time.sleep(args.interval)
            try:
                shown = table(source(), where)
            except EdgeloopError as error:  # away for a while: keep what was there and say so
                shown.caption = Text(plain(f"not up to date: {error.message}", 200), style="red")
            live.update(shown, refresh=True)
    return 0


def table(data: Mapping[str, Any], where: str) -> Table:
    """data: as `/v1/devices` gives it. Fits 80 columns. Strings of devices are shown as text, never as markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from edgeloop.telemetry.summary import threads_text

    totals = data["totals"]
    title = ", ".join(counted(totals[f"{what}s"], what) for what in ("device", "report", "inference"))
    made = Table(title=Text(title), caption=Text(plain(where, 200)), box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    made.add_column("device", width=17, no_wrap=True, overflow="ellipsis")
    made.add_column("ran on", width=12, no_wrap=True, overflow="ellipsis")
    made.add_column("stage", width=11, no_wrap=True)
    for name in ("p50 ms", "p95 ms", "p99 ms"):
        made.add_column(name, width=7, justify="right", no_wrap=True)
    made.add_column("n", width=5, justify="right", no_wrap=True)
    made.add_column("seen", width=6, justify="right", no_wrap=True)
    for device in data["devices"]:
        age_s = data["now_s"] - device["received_s"]
        left = _left(device)
        middle = [device["delegate_ran"] or "-", f"{device['delegated_share']:.0%} of ops"]
        if device["delegate_asked"] not in ("", device["delegate_ran"]):
            middle.append(f"not {device['delegate_asked']}")
        middle.append(threads_text(device["gauges"]))
        middle += [f"{level.upper()} hits {rate['rate']:.0%}" for level, rate in device.get("caches", {}).items()]
        stages = [(name, device["stages"][name]) for name in _STAGES if name in device["stages"]]
        for line in range(max(len(left), len(middle), len(stages))):
            stage, view = stages[line] if line < len(stages) else ("", {})
            cells = [_at(left, line), _at(middle, line), stage]
            cells += [_ms(view[p]) if view else "" for p in ("p50_ms", "p95_ms", "p99_ms")]
            cells.append(_count(view["n"]) if view else "")
            cells.append(_age(age_s) if line == 0 else "")
            style = "dim" if age_s > _STALE_S else "bold" if line == 0 else ""
            made.add_row(*(Text(plain(cell, 40), style=style) for cell in cells))
        made.add_section()
    if not data["devices"]:
        made.add_row(Text("no reports yet"))
    return made


def plain(text: str, limit: int) -> str:
    """Without control characters; a device or collector chose the text."""
    return "".join(character if character.isprintable() else "?" for character in text[:limit])


def _left(device: Mapping[str, Any]) -> list[str]:
    lines = [device["device"], f" {device['bundle'] or '-'} v{device['version']} {device['variant']}"]
    lines += [f" ALERT {name} {_age(seconds)}" for name, seconds in device.get("alerts", {}).items()]
    celsius = device["gauges"].get("temperature_c")
    board = [f"{celsius:.0f} °C"] if celsius is not None else []
    board += ["throttled"] if device["throttled"] else []
    board += ["unsigned"] if device["unsigned"] else []
    if board:
        lines.append(" " + ", ".join(board))
    if device["inferences_per_s"] is not None:
        lines.append(f" {device['inferences_per_s']:.1f}/s")
    if device["last_event"]:
        lines.append(f" {device['last_event']['kind']}")
    return lines


def _at(lines: list[str], index: int) -> str:
    return lines[index] if index < len(lines) else ""


def _ms(value: float) -> str:
    digits = 0 if value >= 1000 else 1 if value >= 100 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}"


def _count(n: int) -> str:
    """In five characters."""
    for limit, unit, name in ((100_000, 1, ""), (10_000_000, 1_000, "k"), (10_000_000_000, 1_000_000, "M")):
        if n < limit:
            return f"{n // unit}{name}"
    return f"{n // 1_000_000_000}G"


def _age(seconds: float) -> str:
    for limit, unit, name in ((100, 1, "s"), (6000, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{max(seconds, 0) / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} d"


def _from_store(url: str) -> tuple[Source, str]:
    from edgeloop.telemetry.overview import Overview
    from edgeloop.telemetry.store import open_store

    overview = Overview(open_store(url, create=False))
    return lambda: overview.to_dict(time.time()), url


def _from_url(url: str) -> Source:
    import http.client
    import urllib.request
    from urllib.error import HTTPError

    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--url takes http:// or https://, not {url!r}", hint="for a file: --store sqlite:///x.db")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def read() -> Mapping[str, Any]:
        try:
            with opener.open(f"{url.rstrip('/')}/v1/devices", timeout=_TIMEOUT_S) as answer:
                data = json.loads(answer.read(_MAX_ANSWER_BYTES))
            table(data, url)  # whatever else answers there is found out here
        except HTTPError as error:
            raise DeviceError(f"{url} answered {error.code}", hint="is it an edgeloop collector?") from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise DeviceError(f"{url} is not reachable: {reason}", hint="is `edgeloop collect` running?") from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise DeviceError(f"{url} did not answer as a collector does", hint="give its address only") from error
        return data  # type: ignore[no-any-return]

    return read
