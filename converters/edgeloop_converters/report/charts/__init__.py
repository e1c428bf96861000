"""Charts as inline SVG, built from values. Colors come from the page's CSS, so that light, dark and print all work."""

from __future__ import annotations

from edgeloop_converters.report.charts.bars import Bar, bar_chart, bullet
from edgeloop_converters.report.charts.confusion import confusion_chart
from edgeloop_converters.report.charts.histogram import histogram_chart
from edgeloop_converters.report.charts.ladder import Rung, ladder_chart
from edgeloop_converters.report.charts.ranges import RangeRow, range_chart
from edgeloop_converters.report.charts.scatter import Point, scatter_chart
from edgeloop_converters.report.charts.strip import Cell, share_bar, strip_chart

__all__ = [
    "Bar",
    "Cell",
    "Point",
    "RangeRow",
    "Rung",
    "bar_chart",
    "bullet",
    "confusion_chart",
    "histogram_chart",
    "ladder_chart",
    "range_chart",
    "scatter_chart",
    "share_bar",
    "strip_chart",
]
