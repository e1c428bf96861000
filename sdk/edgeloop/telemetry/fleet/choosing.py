"""Which rows a table shows: search, filter, order, page. Pure; the same for a stream and for one answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgeloop.errors import DataError
from edgeloop.telemetry.fleet.row import FleetRow

MAX_PAGE_ROWS = 200


def _number(value: float | None) -> tuple[bool, float]:
    return value is not None, value or 0.0


_ORDERS: Mapping[str, Callable[[FleetRow], Any]] = {
    "device": lambda row: (row.device, row.bundle),
    "bundle": lambda row: (row.bundle, row.version, row.device),
    "delegate": lambda row: (row.delegate_ran, row.device),
    "rate": lambda row: _number(row.inferences_per_s),
    "temperature": lambda row: _number(row.temperature_c),
    "seen": lambda row: row.received_s,
}

_PERCENTILES = {"p50": 50, "p95": 95, "p99": 99}

_FILTERS: Mapping[str, Callable[[FleetRow, float], bool]] = {
    "all": lambda _row, _now: True,
    "throttled": lambda row, _now: bool(row.throttled),
    "fallback": lambda row, _now: row.fell_back,
    "silent": lambda row, now: row.silent(now),
    "errors": lambda row, _now: row.errors > 0,
    "alerts": lambda row, _now: bool(row.alerts or row.firing),
}


@dataclass(frozen=True)
class Choice:
    """search: every word must be in a row's names. only: see `_FILTERS`. order: see `_ORDERS`, `_PERCENTILES`."""

    search: str = ""
    only: str = "all"
    order: str = "device"
    descending: bool = False
    offset: int = 0
    limit: int = 50
    bundle: str | None = None
    version: int | None = None

    @property
    def percentile(self) -> int | None:
        """Of the latency that the order goes by, if it does."""
        return _PERCENTILES.get(self.order)

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Choice:
        """From a URL's query. DataError for what is not known."""
        try:
            made = cls(
                search=query.get("search", "")[:200].lower(),
                only=query.get("only", "all"),
                order=query.get("order", "device"),
                descending=query.get("descending", "0") == "1",
                offset=max(int(query.get("offset", "0")), 0),
                limit=min(max(int(query.get("limit", "50")), 1), MAX_PAGE_ROWS),
                bundle=query.get("bundle"),
                version=int(query["version"]) if "version" in query else None,
            )
        except ValueError as error:
            raise DataError(str(error)) from error
        if made.only not in _FILTERS:
            raise DataError(f"cannot show only {made.only!r}", hint=f"known: {', '.join(_FILTERS)}")
        if made.order not in {*_ORDERS, *_PERCENTILES}:
            raise DataError(f"cannot order by {made.order!r}", hint=f"known: {', '.join((*_ORDERS, *_PERCENTILES))}")
        return made


@dataclass(frozen=True)
class Page:
    """matching: rows that were found in all; offset: where this page begins; ids: its rows, in order."""

    matching: int
    offset: int
    ids: tuple[int, ...]


def choose(rows: Iterable[FleetRow], choice: Choice, now_s: float, latency: Mapping[int, float | None]) -> Page:
    """The page of `rows` that `choice` asks for; an offset past the end gives the last page.

    latency: row id -> `choice.percentile` in ms, where it has one.
    """
    words, wanted = choice.search.split(), _FILTERS[choice.only]
    found = [
        row
        for row in rows
        if wanted(row, now_s)
        and (choice.bundle is None or row.bundle == choice.bundle)
        and (choice.version is None or row.version == choice.version)
        and all(word in row.search for word in words)
    ]
    order = _ORDERS.get(choice.order) or (lambda row: _number(latency.get(row.id)))
    found.sort(key=order, reverse=choice.descending)
    offset = choice.offset if choice.offset < len(found) else max(len(found) - 1, 0) // choice.limit * choice.limit
    return Page(len(found), offset, tuple(row.id for row in found[offset : offset + choice.limit]))
