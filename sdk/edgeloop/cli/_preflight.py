"""A delegate's part of `edgeloop analyze`, as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.cli._words import counted

if TYPE_CHECKING:
    from edgeloop.analysis import DelegatePlan

_MOST = 6
"""Suggestions and disagreements that are shown of each kind; `--json` has all."""


def preflight_lines(delegate: str, plan: DelegatePlan) -> list[tuple[str, str]]:
    """What follows from the plan, the gravest first: (label, text)."""
    flight = plan.preflight
    first = []
    if flight.first_off is not None:
        off = flight.first_off
        first.append((f"not {delegate}", f"first op {off.index} ({off.name}): {off.reason}"))
        end = flight.ends_at
        if end is not None and end != off:
            first.append(("", f"it ends at op {end.index} ({end.name}): {end.reason}"))
    return first + [("", line) for line in _details(plan)]


def _details(plan: DelegatePlan) -> list[str]:
    flight, borders, lines = plan.preflight, plan.preflight.borders, []
    if plan.mapped_ops:
        lines.append(
            f"runs as {counted(borders.partitions, 'program')}, {counted(borders.crossings, 'tensor')} crossing "
            f"({byte_count(borders.entering_bytes)} in, {byte_count(borders.leaving_bytes)} out), "
            f"{counted(borders.conversions, 'quantize/dequantize border')}"
        )
    if flight.fit is not None and plan.mapped_ops:
        about = "" if flight.fit.is_exact else "about "
        streamed = flight.fit.streamed_bytes
        rest = f"{about}{byte_count(streamed)} sent at every inference" if streamed else "none streamed"
        lines.append(
            f"parameters: {about}{byte_count(flight.fit.on_chip_bytes)} of {byte_count(flight.fit.sram_bytes)} on the "
            f"chip, {rest}"
        )
    lines += [f"warning: {text}" for text in flight.warnings]
    lines += _some([f"try: {one.text}" for one in flight.rewrites])
    return lines + _some([f"not as predicted: {text}" for text in flight.disagreements])


def byte_count(count: int) -> str:
    if count < 1 << 10:
        return f"{count} B"
    return f"{count / (1 << 20):.2f} MiB" if count >= 1 << 20 else f"{count / (1 << 10):.1f} KiB"


def _some(lines: list[str]) -> list[str]:
    more = len(lines) - _MOST
    return lines if more <= 0 else [*lines[:_MOST], f"... and {more} more (--json)"]
