"""Who takes an offer. Pure: host and device come to the same answer, and no list of devices is published."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from edgeloop.release.channel import ACTIVE, BUNDLE, Channel, Offer

_PARTS = 10_000
"""A percentage counts in hundredths."""


def is_in(
    device: str, name: str, version: int, percent: float, tags: Collection[str] = (), device_tags: Collection[str] = ()
) -> bool:
    """Whether a device is in the cohort of a version.

    The share is by hash, so raising `percent` keeps those who are in, and another version has other first devices.
    tags: one of them must be among `device_tags`; none: any device.
    """
    if tags and set(tags).isdisjoint(device_tags):
        return False
    digest = hashlib.sha256(f"{name}/{version}/{device}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest, "big") % _PARTS < round(percent * _PARTS / 100)


def best_offer(
    channel: Channel,
    name: str | None,
    *,
    kind: str = BUNDLE,
    device: str,
    device_tags: Collection[str] = (),
    strangers: Collection[str] = (),
) -> Offer | None:
    """What a device takes of a channel: the highest active version of `name` (None: any) whose cohort it is in, None
    without one.

    strangers: ids of targets whose bundles cannot run on this board.
    """
    fitting = [
        offer
        for offer in channel.offers
        if offer.kind == kind
        and name in (None, offer.name)
        and offer.state == ACTIVE
        and offer.for_target not in strangers
        and is_in(device, offer.name, offer.version, offer.percent, offer.tags, device_tags)
    ]
    return max(fitting, key=lambda offer: offer.version, default=None)
