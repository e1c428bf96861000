"""The one place that says which version this is (setup.cfg reads it from here)."""

VERSION = "0.1.0"
BUILT = "2026-11-01"
"""Changed with VERSION. A device whose clock stands before this day takes it for today's date."""


def version_tuple(text: str) -> tuple[int, ...]:
    """The leading numbers of a version, to compare: (2, 1) of "2.1.post3"; () when there are none."""
    parts = []
    for part in text.split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)
