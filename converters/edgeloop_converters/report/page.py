"""report.html from a report's plain values: one file, no external resource, light, dark and print, opens offline."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources

from edgeloop_converters.report.html import Markup, tag
from edgeloop_converters.report.sections.ablation import ablation
from edgeloop_converters.report.sections.cascade import cascade
from edgeloop_converters.report.sections.data import data_and_contract, findings
from edgeloop_converters.report.sections.dynamic import dynamic
from edgeloop_converters.report.sections.latency import Latencies, latency_section
from edgeloop_converters.report.sections.layers import below_softmax, errors, ranges, softened
from edgeloop_converters.report.sections.mistakes import confusion
from edgeloop_converters.report.sections.placement import placement
from edgeloop_converters.report.sections.provenance import again, provenance
from edgeloop_converters.report.sections.repairs import repairs
from edgeloop_converters.report.sections.search import search
from edgeloop_converters.report.sections.summary import summary, title_of
from edgeloop_converters.report.sections.tradeoff import tradeoff
from edgeloop_converters.report.words import Values, shown_bucket

_FEWEST_FOR_CONTENTS = 4
_HEADING = re.compile(r'<section id="([a-z]+)"><h2>(.*?)</h2>')


def render(report: Values, *, device: str = "", latency: Mapping[str, Latencies] | None = None) -> str:
    """The page. `report`: as report.json has it; whatever is missing is left out.

    device, latency: latency histograms per stage as a device reported them, if there are any.
    """
    stages = latency or {}
    cut = below_softmax(report.get("per_op") or (), report.get("ranges") or ())
    sections = [
        tradeoff(report),
        cascade(report),
        search(report),
        dynamic(report),
        ablation(report),
        repairs(report),
        confusion(report.get("confusion"), shown_bucket(report)),
        errors(report.get("per_op") or (), cut),
        ranges(report.get("ranges") or (), cut, softened(report.get("per_op") or ())),
        placement(report.get("analysis"), report.get("target")),
        latency_section(report, device, stages),
        findings(report),
        data_and_contract(report),
        provenance(report),
        again(report),
    ]
    parts = [one for one in sections if one is not None]
    body = tag("main", summary(report, device, stages), _contents(parts), parts)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"),
        tag("title", f"edgeloop: {title_of(report)}"),
        tag("style", Markup(resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8"))),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", body), lang="en") + "\n"


def _contents(parts: Sequence[Markup]) -> Markup | None:
    """Links to the parts, which are already escaped markup."""
    found = [match for part in parts if (match := _HEADING.match(part))]
    if len(found) < _FEWEST_FOR_CONTENTS:
        return None
    links = [tag("a", Markup(match.group(2)), href=f"#{match.group(1)}") for match in found]
    return tag("nav", links, aria_label="contents")
