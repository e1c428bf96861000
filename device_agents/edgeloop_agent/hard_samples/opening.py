"""From the agent's settings to what sends hard samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from edgeloop.telemetry.transports import open_transport
from edgeloop_agent.hard_samples.sending import Line, SampleSender, private_url
from edgeloop_agent.hard_samples.settings import FOLDER

if TYPE_CHECKING:
    from edgeloop_agent.supervisor.supervised import Assignment


class Delivers(Protocol):
    """The publisher, as far as it is asked."""

    def totals(self) -> dict[str, int]: ...


def open_sender(
    assignments: Sequence[Assignment], publisher: Delivers | None, tell: Callable[[str], None]
) -> SampleSender | None:
    """None where no model's `[hard_samples]` is enabled, or nothing is sent at all. The tallies count what is sent."""
    choosing = [a for a in assignments if a.config.hard_samples.enabled]
    if not choosing or publisher is None:
        return None
    config = choosing[0].config
    url = private_url(config.telemetry)
    # Over http and https it is an HttpTransport, one of its own: a connection is for one thread.
    line = None if url is None else cast(Line, open_transport(url, device=config.device, state=config.state))
    folders = [a.config.folder / FOLDER for a in choosing]

    def reports_are_delivered() -> bool:
        """Some were: so the collector knows this device by now, and enrolled it where that was to be done."""
        totals = publisher.totals()
        return totals["delivered"] > 0 and totals["waiting"] == 0

    sender = SampleSender(config.device, folders, line, reports_are_delivered, tell)
    for index, assignment in enumerate(choosing):
        assignment.tally.more_counts = partial(sender.take_sent, index)
    return sender
