"""Which reports a question is about."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Selection:
    """Reports that match every field that is set. Times are the device's own clock, unix seconds, `until` excluded."""

    device: str | None = None
    boot: str | None = None
    bundle: str | None = None
    version: int | None = None
    variant: str | None = None
    delegate: str | None = None
    since_s: float | None = None
    until_s: float | None = None
