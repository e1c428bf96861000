"""What a device does about an offer: the rules, as functions of values. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeloop.release.channel import Delta, Offer
from edgeloop_agent.delivery.update import Standing


@dataclass(frozen=True)
class Seen:
    """What earlier polls met. refused: SHA-256 of a file -> why the door refused it. tried: SHA-256 of a file -> digest
    of the version that it brought, which the door's record tells the end of. useless: SHA-256 of files whose delta
    from here led nowhere."""

    refused: Mapping[str, str] = field(default_factory=dict)
    tried: Mapping[str, str] = field(default_factory=dict)
    useless: tuple[str, ...] = ()


@dataclass(frozen=True)
class Leave:
    """Nothing to do. state: "current", or "waiting" for a trial to end, or "refused" where it was refused before."""

    state: str
    reason: str = ""


@dataclass(frozen=True)
class Take:
    """Fetch it, and hand it to the door."""

    offer: Offer


def decide(offer: Offer | None, standing: Standing, seen: Seen, *, again: bool = False) -> Leave | Take:
    """About one bundle. offer: the best of the channel for this device. again: somebody asks for what failed here."""
    if standing.trial is not None:
        return Leave("waiting", f"version {standing.trial.version} is on trial")
    # Not only newer than what runs: what somebody went back from by hand is not brought again.
    newest = max(standing.highest, standing.running.number if standing.running else 0)
    if offer is None or offer.version <= newest:
        return Leave("current")
    why = "" if again else _failed(offer, standing, seen)
    return Leave("refused", why) if why else Take(offer)


def delta_for(offer: Offer, here: Mapping[str, object], seen: Seen) -> Delta | None:
    """The smallest delta that starts from a file that is here (SHA-256 -> anything)."""
    if offer.sha256 in seen.useless:
        return None
    fitting = [delta for delta in offer.deltas if delta.from_sha256 in here]
    return min(fitting, key=lambda delta: delta.bytes, default=None)


def _failed(offer: Offer, standing: Standing, seen: Seen) -> str:
    if offer.sha256 in seen.refused:
        return seen.refused[offer.sha256]
    return standing.failed.get(seen.tried.get(offer.sha256, ""), "")
