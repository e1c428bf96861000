"""Questions to a store in this process."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.overview import WINDOW_REPORTS, Overview
from edgeloop.telemetry.reading import Latency, Question
from edgeloop.telemetry.reading.members import members
from edgeloop.telemetry.store.database import Store
from edgeloop.telemetry.store.rows import StoredEvent, StoredReport


@dataclass(frozen=True)
class LocalReader:
    """A Reader over a store, which is closed with it."""

    store: Store

    def reports(self, question: Question, *, after_id: int = 0) -> Iterator[StoredReport]:
        """See Reader; after_id: those that arrived after this one."""
        every = self.store.reports(question.selection, after_id=after_id)
        if not question.asks_registry:
            return every
        wanted = members(self.store, question)
        return (stored for stored in every if stored.report.device in wanted)

    def latest(self, question: Question) -> list[StoredReport]:
        found = self.store.latest(question.selection)
        if not question.asks_registry:
            return found
        wanted = members(self.store, question)
        return [stored for stored in found if stored.report.device in wanted]

    def latency(self, question: Question, by: Sequence[str] = (), stage: str | None = None) -> Latency:
        if not question.asks_registry:
            return self.store.latency(question.selection, by=by, stage=stage)
        wanted = members(self.store, question)
        parts: dict[tuple[str, ...], list[Histogram]] = {}
        found = self.store.latency(question.selection, by=("device", *by), stage=stage)
        for (name, device, *group), histogram in found.items():
            if device in wanted:
                parts.setdefault((name, *group), []).append(histogram)
        return {key: Histogram.merged(histograms) for key, histograms in parts.items()}

    def events(self, question: Question, kinds: Collection[str], *, after_id: int = 0) -> list[StoredEvent]:
        """See Reader."""
        found = self.store.events(question.selection, kinds, after_id=after_id)
        if not question.asks_registry:
            return found
        wanted = members(self.store, question)
        return [event for event in found if event.device in wanted]

    def recent(self, device: str) -> list[StoredReport]:
        return self.store.recent(device, WINDOW_REPORTS)

    def ranked(self, order: str, limit: int, bundle: str | None) -> None:
        del order, limit, bundle

    def overview(self, now_s: float) -> Mapping[str, Any]:
        return self._overview.to_dict(now_s)

    @cached_property
    def _overview(self) -> Overview:
        return Overview(self.store)

    def total(self) -> int:
        return self.store.counts().reports

    def close(self) -> None:
        self.store.close()
