"""Which devices the collector's registry has in a group or with a tag."""

from __future__ import annotations

from edgeloop.errors import DataError, UsageError
from edgeloop.telemetry.collector.security.audit import Audit
from edgeloop.telemetry.collector.security.records import parse_tags
from edgeloop.telemetry.collector.security.registry import Registry
from edgeloop.telemetry.reading import Question
from edgeloop.telemetry.store.database import Store


def members(store: Store, question: Question) -> set[str]:
    """Names. Raises DataError for a tag that is not KEY=VALUE."""
    try:
        tags = {} if question.tag is None else parse_tags([question.tag])
    except UsageError as error:  # the asker's fault, also of one who asks over HTTP
        raise DataError(error.message, hint=error.hint) from error
    return Registry(store.database, Audit(store.database)).members(question.group, tags)
