"""Ways to run one bundle: what each costs on average and how good it is, as a picture and as a table."""

from __future__ import annotations

from edgeloop_converters.report.charts import Point, scatter_chart
from edgeloop_converters.report.html import Markup, columns_in_use, section, soft, tag
from edgeloop_converters.report.words import Values, percent

_HEAD = ("runs", "accuracy", "as the float model", "stops there", "mean cost", "share")


def dynamic(report: Values) -> Markup | None:
    from edgeloop_converters.dynamic.trade import chosen_line, mean_cost

    trade = report.get("dynamic")
    if not trade:
        return None
    chosen = {(one["head"], one["threshold"]) for one in trade["exits"] if one["threshold"] is not None}
    rows, points = [], []
    for point in trade["points"]:
        threshold = point["threshold"]
        name = point["variant"] if threshold is None else f"{point['head']} from {threshold:g}"
        mark = " ← chosen" if (point["head"], threshold) in chosen else ""
        quality = point["agreement"] if point["accuracy"] is None else point["accuracy"]
        rows.append(
            (name + mark, percent(point["accuracy"]), percent(point["agreement"]),
             "" if threshold is None else percent(point["stopped"]), f"{mean_cost(point):,.0f}", f"{point['cost']:.2f}")
        )  # fmt: skip
        if quality is not None:
            points.append(Point(name, mean_cost(point), quality, f"{name}: {percent(quality)} at {point['cost']:.2f}"))
    metric = "agreement" if all(p["accuracy"] is None for p in trade["points"]) else "accuracy"
    chart = scatter_chart(
        f"{metric} against mean cost", points, f"{trade['unit']} of a sample, mean", metric,
        show_x=lambda n: f"{n / 1e6:.3g} M",
    )  # fmt: skip
    said = [
        f"{trade['samples']} samples; cost in {trade['unit']}. Whole variants, and {trade['variant']} stopping at a "
        "head from a confidence on. A device steps among them by load, heat and what it sees.",
        *(f"{chosen_line(one, trade)}." for one in trade["exits"]),
    ]
    return section("dynamic", "Accuracy against mean cost", tag("figure", chart), columns_in_use(_HEAD, rows),
                   soft(" ".join(said)))  # fmt: skip
