"""What a pass says of itself in a line."""

from __future__ import annotations

from edgeloop_converters.passes.report import PassReport


def test_errors_are_said_in_their_unit_and_with_where_they_were_measured() -> None:
    report = PassReport(
        "range search", "3 ranges changed", 0.7,
        {"output_error": 0.002882, "held_out_error": 0.0032}, {"output_error": 0.0017, "held_out_error": 0.0019},
    )  # fmt: skip
    assert report.note() == (
        "range search: 3 ranges changed (error 0.288% -> 0.170% of the outputs' variance on samples that it saw; error "
        "0.320% -> 0.190% of the outputs' variance on samples that it did not see), 0.7 s"
    )


def test_counts_are_counts_and_what_was_dropped_is_said() -> None:
    report = PassReport("decisions", "other decisions", 0.3, {"flips": 18}, {"flips": 10}, accepted=False)
    assert report.note() == "decisions: other decisions (flips 18 -> 10), 0.3 s; not kept"
