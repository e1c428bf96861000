"""A bundle taken into a repository and offered in a channel. The rules are pure; `publish` does the I/O around them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.deploy.release.change import Change
from edgeloop.deploy.release.repository import Repository
from edgeloop.errors import RefusedError, UsageError
from edgeloop.release.channel import BUNDLE, MAX_DELTAS, MAX_OFFERS, Channel, Delta, Offer, agent_platform, delta_path

if TYPE_CHECKING:
    from edgeloop.bundle.trust import TrustStore

KEPT_OFFERS = 3
"""Of one name and target in a channel: what devices fall back to while a newer one is halted."""
_RESERVED = "channels"


@dataclass(frozen=True)
class Published:
    """is_new: of the file; a channel can offer what another one has. deltas: those that were made now."""

    offer: Offer
    channel: Channel
    is_new: bool
    deltas: tuple[Delta, ...] = ()


def judge(channel: Channel, offer: Offer, *, older: bool = False) -> None:
    """Whether a channel may begin to offer this. Raises UsageError."""
    alike = [o for o in channel.offers if (o.name, o.for_target) == (offer.name, offer.for_target)]
    highest = max((o.version for o in alike), default=0)
    if other := next((o for o in channel.offers if o.name == offer.name and o.kind != offer.kind), None):
        raise UsageError(
            f"channel {channel.channel} has a {other.kind} called {offer.name}, this is of the kind {offer.kind}"
        )
    if any((o.name, o.version) == (offer.name, offer.version) for o in channel.offers):
        raise UsageError(
            f"channel {channel.channel} offers {offer.name} version {offer.version} already",
            hint="edgeloop release promote changes its share of the devices",
        )
    if offer.version < highest and not older:
        raise UsageError(
            f"channel {channel.channel} offers {offer.name} version {highest} already, which is newer than "
            f"{offer.version}",
            hint="give it a higher version; --older offers it to devices that have none yet",
        )
    if len(channel.offers) >= MAX_OFFERS:
        raise UsageError(f"channel {channel.channel} has {MAX_OFFERS} offers", hint="use another channel")


def offering(channel: Channel, offer: Offer) -> Channel:
    """The channel with one offer more; the oldest ones of that name and target go."""
    alike = sorted((o.version for o in channel.offers if _key(o) == _key(offer)), reverse=True)
    gone = set(alike[KEPT_OFFERS - 1 :])
    kept = tuple(o for o in channel.offers if _key(o) != _key(offer) or o.version not in gone)
    return replace(channel, offers=tuple(sorted((*kept, offer), key=lambda o: (o.name, o.version))))


def publish(
    change: Change, bundle_file: Path, channel_name: str, *, percent: float = 100.0, tags: tuple[str, ...] = (),
    p95_ms: float | None = None, older: bool = False, trust: TrustStore | None = None,
) -> Published:  # fmt: skip
    """Take a bundle into the change. Under `locked`.

    Raises RefusedError for one that is not signed by a key trusted here, is damaged, or has the version of another one;
    UsageError for what `judge` does not let in.
    """
    from tuf.api.metadata import TargetFile

    repository = _before(change)
    kind, name, version, for_target = verified(bundle_file, trust)
    if name == _RESERVED:
        raise UsageError(f"nothing can be called {_RESERVED!r} in a release", hint="make it with another name")
    if p95_ms is not None and kind != BUNDLE:
        raise UsageError(f"{bundle_file.name}: a budget is for bundles, this is {kind} {name}", hint="no --max-p95")
    file = TargetFile.from_file("", str(bundle_file))
    offer = Offer(
        name, version, file.hashes["sha256"], file.length, for_target, percent, tags,
        p95_ms=p95_ms, since_s=int(change.now.timestamp()), kind=kind,
    )  # fmt: skip
    there = repository.files.get(offer.target_path)
    if there is not None and there.hashes["sha256"] != offer.sha256:
        raise RefusedError(
            f"{offer.name} version {offer.version} was published before with other bytes",
            hint="give the changed one a higher version",
        )
    channel = repository.channel(channel_name)
    judge(channel, offer, older=older)
    made: list[Delta] = []
    if there is None:
        change.add_file(offer.target_path, bundle_file)
        made = _make_deltas(change, repository, channel, offer, bundle_file) if kind == BUNDLE else []
    offer = replace(offer, deltas=tuple(made) if there is None else _known_deltas(repository, offer))
    return Published(offer, change.set_channel(offering(channel, offer)), there is None, tuple(made))


def verified(path: Path, trust: TrustStore | None = None) -> tuple[str, str, int, str]:
    """(kind, name, version, what it was made for) of a bundle, or of a package: an agent or a config.

    Raises RefusedError for one that no trusted key signed or that is damaged, UsageError where there is none, or one
    with an exception.
    """
    from edgeloop.bundle import Bundle
    from edgeloop.bundle.package import Package, is_package

    if not is_package(path):
        bundle = Bundle.open(path, trust=trust)
        _check_has_no_exception(path, bundle.raw_signatures())
        manifest = bundle.manifest
        return BUNDLE, manifest.name, manifest.version, manifest.target
    package = Package.open(path, trust=trust)
    _check_has_no_exception(path, package.raw_signatures())
    for _ in package.chunks():
        pass
    made = package.manifest
    return made.kind, made.name, made.version, agent_platform(made.machine, made.python)


def _check_has_no_exception(path: Path, raw_signatures: bytes) -> None:
    """It would take the version's number in the repository for a file that is meant for a few devices."""
    from edgeloop.bundle.allowances import decode_allowances

    if decode_allowances(raw_signatures):
        raise UsageError(
            f"{path} carries an exception (allow-older), which is for deploy and update",
            hint="publish the file that it was made of",
        )


def _make_deltas(
    change: Change, repository: Repository, channel: Channel, offer: Offer, bundle_file: Path
) -> list[Delta]:
    """From what the channel's devices may have now, where that saves enough."""
    from edgeloop.release.delta import make_delta

    made = []
    for old in [o for o in channel.offers if o.name == offer.name and o.for_target == offer.for_target][-MAX_DELTAS:]:
        target = repository.files.get(old.target_path)
        if target is None:
            continue
        content = make_delta(repository.check(target), bundle_file)
        if content is not None:
            delta = Delta(old.sha256, delta_path(offer.name, offer.version, old.sha256), len(content))
            change.add_file(delta.target_path, content)
            made.append(delta)
    return made


def _known_deltas(repository: Repository, offer: Offer) -> tuple[Delta, ...]:
    """Of a version that another channel offers already."""
    for channel in repository.channels().values():
        for other in channel.offers:
            if (other.name, other.version) == (offer.name, offer.version):
                return other.deltas
    return ()


def _before(change: Change) -> Repository:
    if change.before is None:
        raise UsageError(f"{change.folder} is no release repository yet", hint="edgeloop release init")
    return change.before


def _key(offer: Offer) -> tuple[str, str]:
    return offer.name, offer.for_target
