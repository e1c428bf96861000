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


def test_amounts_have_a_unit_and_what_did_not_change_is_left_out() -> None:
    before = {"macs": 521_184.0, "bytes": 102_472.0, "peak_memory_bytes": 12_288.0, "ops": 9.0, "cost": 5.0}
    after = {"macs": 51_780.0, "bytes": 22_104.0, "peak_memory_bytes": 12_288.0, "ops": 8.0, "cost": 4.0}
    assert PassReport("prune", "some removed", 36.02, before, after).note() == (
        "prune: some removed (MACs 521 k -> 51.8 k; weights 102 kB -> 22.1 kB; ops 9 -> 8; cost 5 -> 4), 36.0 s"
    )
    assert PassReport("optimize graph", "nothing to do", 0.1, before, before).note() == (
        "optimize graph: nothing to do, 0.1 s"
    )
    by_size = PassReport("prune", "half", 1.0, {"bytes": 900.0, "cost": 900.0}, {"bytes": 500.0, "cost": 500.0})
    assert by_size.note() == "prune: half (weights 900 B -> 500 B), 1.0 s"
    large = PassReport("prune", "half", 1.0, {"macs": 313_725_952.0}, {"macs": 78_875_136.0})
    assert large.note() == "prune: half (MACs 314 M -> 78.9 M), 1.0 s"
