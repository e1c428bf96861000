"""The part of a report that tells the search for a smaller model."""

from __future__ import annotations

from edgeloop_converters.report.sections.search import search

TRIAL = {
    "name": "trial-55", "share": 0.55, "reached": 0.52, "trained": True, "bytes": 25_300, "metric": "accuracy",
    "value": 0.98, "float": 0.99, "agreement": 0.97, "samples": 220, "missed": [], "on_front": True,
    "measured": {"value": 12.3456, "unit": "ms"},
}  # fmt: skip


def test_trials_are_a_table_with_the_one_taken() -> None:
    missed = {**TRIAL, "name": "trial-30", "share": 0.3, "missed": ["drops by <3> pt"], "measured": None}
    page = search({"search": {"reasons": ["budget: 1 pt"], "trials": [TRIAL, missed], "chosen": "trial-55"}})
    assert page is not None
    for text in ("budget: 1 pt", "55.00 %", "25.3 kB", "12.3 ms", "taken", "on the front", "drops by &lt;3&gt; pt"):
        assert text in page


def test_without_a_search_there_is_no_such_part() -> None:
    assert search({}) is None
    assert search({"search": None}) is None
