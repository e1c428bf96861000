"""Which devices the collector's registry has in a group or with a tag."""

from __future__ import annotations

from edgeloop.errors import UsageError
from edgeloop.telemetry.reading import Question
from edgeloop.telemetry.store.database import Store


def members(store: Store, question: Question) -> frozenset[str]:
    """Raises UsageError where the registry knows nothing of groups and tags."""
    raise UsageError("this store has no registry, so no groups and tags")
