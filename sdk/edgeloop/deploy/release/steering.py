"""A channel steered: which offer is meant, and the channel with that offer changed. Pure."""

from __future__ import annotations

from dataclasses import replace

from edgeloop.deploy.release.publish import judge, offering
from edgeloop.errors import UsageError
from edgeloop.release.channel import ACTIVE, HALTED, MAX_TEXT, Channel, Offer


def find(channel: Channel, name: str | None, version: int | None) -> Offer:
    """The offer of that name, where there is only one without it; without a version its highest. Raises UsageError."""
    names = sorted({offer.name for offer in channel.offers})
    if not names:
        raise UsageError(f"channel {channel.channel} offers nothing", hint="edgeloop release publish REPO BUNDLE")
    if name is None and len(names) > 1:
        raise UsageError(f"channel {channel.channel} offers {', '.join(names)}: which one?", hint="give its name")
    wanted = names[0] if name is None else name
    found = [o for o in channel.offers if o.name == wanted and version in (None, o.version)]
    if not found:
        there = ", ".join(f"{o.name} {o.version}" for o in channel.offers)
        which = wanted if version is None else f"{wanted} version {version}"
        raise UsageError(f"channel {channel.channel} does not offer {which}", hint=f"it offers {there}")
    return max(found, key=lambda offer: offer.version)


def stopped(channel: Channel, offer: Offer, state: str, reason: str) -> Channel:
    """Nobody takes it from now on. state: PAUSED or HALTED; a halted one stays halted."""
    if offer.state == HALTED:
        return channel
    line = "".join(c if c.isprintable() else " " for c in reason)[:MAX_TEXT]
    return _with(channel, replace(offer, state=state, reason=line))


def resumed(channel: Channel, offer: Offer, now_s: int) -> Channel:
    """Its cohort takes it again; what was reported about it so far counts no more."""
    if offer.state == ACTIVE:
        return channel
    return _with(channel, replace(offer, state=ACTIVE, reason="", since_s=now_s))


def promoted(channel: Channel, offer: Offer, percent: float, tags: tuple[str, ...] | None = None) -> Channel:
    """More devices take it. tags: others than now; None: the same. Raises UsageError where it would be fewer."""
    _check_active(offer, channel)
    if percent < offer.percent:
        raise UsageError(
            f"{offer.name} version {offer.version} is for {offer.percent:g} % already: a share only grows",
            hint="edgeloop release pause stops it; what took it keeps it",
        )
    return _with(channel, replace(offer, percent=percent, tags=offer.tags if tags is None else tags))


def brought(
    source: Channel,
    to: Channel,
    offer: Offer,
    percent: float,
    tags: tuple[str, ...],
    now_s: int,
    *,
    older: bool = False,
) -> Channel:
    """The other channel offers it, too. Raises UsageError as `judge`."""
    _check_active(offer, source)
    new = replace(offer, percent=percent, tags=tags, since_s=now_s)
    judge(to, new, older=older)
    return offering(to, new)


def _check_active(offer: Offer, channel: Channel) -> None:
    if offer.state != ACTIVE:
        why = f": {offer.reason}" if offer.reason else ""
        raise UsageError(
            f"{offer.name} version {offer.version} is {offer.state} in {channel.channel}{why}",
            hint="edgeloop release resume, if it is well",
        )


def _with(channel: Channel, changed: Offer) -> Channel:
    key = changed.name, changed.version
    return replace(channel, offers=tuple(changed if (o.name, o.version) == key else o for o in channel.offers))
