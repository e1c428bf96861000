"""What events say about versions."""

from __future__ import annotations

import pytest

from edgeloop.release.events import REFUSED, VersionEvent, release_detail, version_event


@pytest.mark.parametrize(
    ("kind", "detail", "said"),
    [
        ("update", "version 8 is on trial", VersionEvent("", 8, "trial")),
        ("committed", "version 8: well for 60 s and 99 inferences", VersionEvent("", 8, "committed")),
        ("rollback", "version 8 to version 7: too slow: p95", VersionEvent("", 8, "rolled back", "too slow: p95")),
        ("committed", "agent version 8: well for 60 s", VersionEvent("", 8, "committed", kind="agent")),
        ("rollback", "config version 8 to the one that", VersionEvent("", 8, "rolled back", kind="config")),
        ("committed", "it runs version 8", None),
        ("release", release_detail("ic", 8, REFUSED, "a: b"), VersionEvent("ic", 8, "refused", "a: b")),
        ("update_refused", "ic version 8: a: b", VersionEvent("ic", 8, "refused", "a: b")),
        ("update_refused", "the door ended without a verdict", None),
        ("release", "nothing new", None),
        ("restart", "version 8", None),
        ("rollback", "by hand", None),
    ],
)
def test_events_are_read_back(kind, detail, said):
    assert version_event(kind, detail) == said
