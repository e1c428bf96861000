"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence

from edgeloop_converters.report.charts import confusion_chart
from edgeloop_converters.report.charts.confusion import class_name
from edgeloop_converters.report.html import Markup, section, table, tag
from edgeloop_converters.report.words import Values, percent

_MAX_MIXED_UP = 8
_MAX_MATRIX_CLASSES = 100


def confusion(confused: Values | None, variant: str = "") -> Markup | None:
    """variant: whose it is, where there are several."""
    if not confused or not confused.get("matrix"):
        return None
    matrix: Sequence[Sequence[int]] = confused["matrix"]
    labels: Sequence[str] = confused.get("labels") or ()
    mixed = sorted(
        ((n, r, c) for r, row in enumerate(matrix) for c, n in enumerate(row) if n and r != c),
        key=lambda x: (-x[0], x[1:]),
    )[:_MAX_MIXED_UP]
    rows = [[class_name(labels, r), class_name(labels, c), n, percent(n / sum(matrix[r]))] for n, r, c in mixed]
    chart = None
    if len(matrix) <= _MAX_MATRIX_CLASSES:
        chart = tag(
            "figure",
            confusion_chart("confusion matrix", matrix, labels),
            tag(
                "figcaption",
                f"Of {variant}. " if variant else "",
                "Rows: true class. Columns: what the exported model says. Shade: share of the row.",
            ),
        )
    most = table(["true class", "read as", "samples", "of the class"], rows) if rows else tag("p", "No mistakes.")
    beside = tag("div", tag("h3", "Most frequent mistakes"), most)
    return section("confusion", "Confusion matrix", tag("div", chart, beside, class_="beside"))
