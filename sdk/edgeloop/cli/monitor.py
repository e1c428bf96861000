"""Watch the devices in a terminal: the fleet, or one device with its stages, gauges, events and history."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from edgeloop.cli._console import Console
from edgeloop.cli._monitor_text import ORDERS, device_lines, fleet_lines, ordered, title_line
from edgeloop.cli._report_filters import add_device_filters
from edgeloop.cli._shared_flags import check_at_least_one
from edgeloop.cli._terminal import ALARM, DIM, Line, Look, full_screen, is_interactive, look
from edgeloop.errors import EdgeloopError, UsageError
from edgeloop.telemetry.overview import describe_models
from edgeloop.telemetry.reading import Question, Reader, open_reader
from edgeloop.telemetry.store import DEFAULT_STORE_URL, Selection
from edgeloop.telemetry.store.shown import without_secrets

_ASKED_FOR = 200

EPILOG = """example:
  edgeloop monitor                                          the store in this folder
  edgeloop monitor --url https://host:8443?ca=ca.pem        a running collector (token: EDGELOOP_TOKEN)
  edgeloop monitor --sort p95 --top 20 --group line-2       the slowest first
  edgeloop monitor --device pi-1                            everything of one device
  edgeloop monitor --once --json

Keys: n and p page forward and back, s sorts by the next column, q ends (so does Ctrl-C)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", metavar="URL", help=f"default: {DEFAULT_STORE_URL}")
    parser.add_argument("--url", metavar="URL", help="a running collector instead of a store")
    add_device_filters(parser)
    columns = f"{', '.join(ORDERS)} (default: %(default)s)"
    parser.add_argument("--sort", metavar="COLUMN", choices=tuple(ORDERS), default="device", help=columns)
    parser.add_argument("--top", type=int, metavar="N", help="only the first N")
    parser.add_argument("--once", action="store_true", help="print once and end (so it does without a terminal)")
    parser.add_argument("--interval", type=float, metavar="SECONDS", default=2.0, help="default: %(default)s")


def run(args: argparse.Namespace, console: Console) -> int:
    if args.store and args.url:
        raise UsageError("--store and --url are two places", hint="give one of them")
    if args.url and not args.url.startswith(("http://", "https://")):
        raise UsageError(f"--url takes http:// or https://, not {args.url!r}", hint="a file: --store sqlite:///x.db")
    if not 0.1 <= args.interval <= 3600:
        raise UsageError("--interval is 0.1 to 3600 seconds")
    check_at_least_one(args, "--top")
    where = args.url or args.store or DEFAULT_STORE_URL
    question = Question(Selection(device=args.device, bundle=args.bundle), args.group, args.tag)
    reader = open_reader(where)
    try:
        watch = Watch(reader, question, without_secrets(where), args.sort, args.top)
        if console.json:
            console.result(watch.read().to_dict(), "")
        elif args.once or not is_interactive():
            shown = look()
            print("\n".join(shown.styled(line) for line in watch.read().lines(shown)), flush=True)
        else:
            with suppress(KeyboardInterrupt):
                _live(watch, args.interval)
    finally:
        reader.close()
    return 0


@dataclass(frozen=True)
class Picture:
    """What was read at one time. events: of the one device that was asked for."""

    data: Mapping[str, Any]
    devices: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    where: str
    is_one: bool

    def to_dict(self) -> dict[str, Any]:
        """As `/v1/devices` gives it, but for what was left out; `events` where one device was asked for."""
        more = {"events": list(self.events)} if self.is_one else {}
        return {**self.data, "devices": list(self.devices), **more}

    def lines(self, look: Look) -> list[Line]:
        """All of it, without pages."""
        return [title_line(self.data, self.devices, self.where, look), *chain(*self.blocks(look))]

    def blocks(self, look: Look) -> list[list[Line]]:
        """What stays together: a head, then a block per device. Of one device each line is a block."""
        if not self.devices:
            return [[], [Line("no device matches" if self.data["totals"]["devices"] else "no reports yet")]]
        if self.is_one:
            return [[], *([line] for line in device_lines(self.devices, self.events, self.data["now_s"], look))]
        return fleet_lines(self.devices, self.data["now_s"], look)


@dataclass(frozen=True)
class Watch:
    """Reads a Picture again and again."""

    reader: Reader
    question: Question
    where: str
    order: str
    top: int | None

    def read(self) -> Picture:
        """DeviceError where the store or collector is away, and for what is no collector."""
        data = self.reader.overview(time.time())
        wanted = self.question.selection
        found: Sequence[Mapping[str, Any]] = data["devices"]
        known = len({device["device"] for device in found})
        is_partial = known < data["totals"]["devices"] and wanted.device is None
        if is_partial and not self.question.asks_registry:
            ranked = self.reader.ranked(self.order, self.top or known, wanted.bundle)
            found, is_partial = (found, True) if ranked is None else (ranked, False)
        events: list[Mapping[str, Any]] = []
        if wanted.device is not None:
            recent = self.reader.recent(wanted.device)
            found = [view.to_dict() for view in describe_models(recent)] if recent else []
            events = [vars(event) for stored in recent for event in stored.report.events]
        if self.question.asks_registry:
            registered = self.reader.latest(replace(self.question, selection=Selection()))
            found = self._of([stored.report.device for stored in registered], found)
        found = [device for device in found if wanted.bundle in (None, device["bundle"])]
        where = f"(first {known} by name) {self.where}" if is_partial else self.where
        return Picture(data, ordered(found, self.order)[: self.top], events, where, wanted.device is not None)

    def _of(self, names: Sequence[str], known: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Those of `known` with these names; some that an overview of a large fleet left out are asked for."""
        found = [device for device in known if device["device"] in set(names)]
        if self.question.selection.device is None:
            missing = sorted(set(names) - {device["device"] for device in found})
            for name in missing[:_ASKED_FOR]:
                recent = self.reader.recent(name)
                found += [view.to_dict() for view in describe_models(recent)] if recent else []
        return found


def _live(watch: Watch, interval_s: float) -> None:
    """Until q or Ctrl-C. A collector that is away for a while leaves what was there, and is said."""
    picture, trouble, page = watch.read(), "", 0
    with full_screen() as screen:
        due_s = time.monotonic() + interval_s
        while True:
            shown = look()
            lines, page = paged(picture, page, shown, trouble, watch.order)
            screen.draw(lines, shown)
            key = screen.wait(due_s - time.monotonic())
            if key == "q":
                return
            page += {"n": 1, " ": 1, "p": -1, "b": -1}.get(key, 0)
            if key == "s":
                names = list(ORDERS)
                watch = replace(watch, order=names[(names.index(watch.order) + 1) % len(names)])
            if key == "s" or time.monotonic() >= due_s:
                try:
                    picture, trouble = watch.read(), ""
                except EdgeloopError as error:
                    trouble = error.message
                due_s = time.monotonic() + interval_s


def paged(picture: Picture, page: int, look: Look, trouble: str, order: str) -> tuple[list[Line], int]:
    """(lines that fill the terminal at most, page that they are): title, head, whole blocks, a line below."""
    head, *blocks = picture.blocks(look)
    room = max(1, look.rows - 2 - len(head))
    pages: list[list[Line]] = [[]]
    for block in blocks:
        if pages[-1] and len(pages[-1]) + len(block) > room:
            pages.append([])
        pages[-1] += block
    page = min(max(page, 0), len(pages) - 1)
    title = title_line(picture.data, picture.devices, picture.where, look)
    if trouble:
        below = Line(look.fit(f"not up to date: {trouble}", look.columns).rstrip(), ALARM)
    else:
        sorting = "" if picture.is_one else f"  by {order}"
        clock = time.strftime("%H:%M:%S", time.localtime(picture.data["now_s"]))
        keys = "n/p page  s sort  q quit" if not picture.is_one else "n/p page  q quit"
        text = f"{clock}  page {page + 1} of {len(pages)}{sorting}  {keys}"
        below = Line(look.fit(text, look.columns).rstrip(), DIM)
    return [title, *head, *pages[page][:room], below], page
