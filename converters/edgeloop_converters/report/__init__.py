"""report.json and a self-contained report.html (inline SVG, light and dark, no scripts)."""

from __future__ import annotations

from edgeloop_converters.report.files import finite, write_report
from edgeloop_converters.report.page import render

__all__ = ["finite", "render", "write_report"]
