"""What the operator is told cannot be silenced by a stranger who makes noise."""

from __future__ import annotations

from edgeloop.telemetry.collector.notices import Notices


def test_noise_of_one_kind_is_bounded_and_silences_no_other_kind() -> None:
    said: list[str] = []
    notices = Notices(said.append)
    for number in range(5000):
        notices.once(f"report pi-{number}", f"rejected a report of pi-{number}")
    assert len(said) == 201
    assert "no more is said of this kind (report)" in said[-1]
    notices.once("defect ValueError", "/v1/reports failed")
    notices.once("defect ValueError", "/v1/reports failed")
    assert said[201:] == ["/v1/reports failed"]
