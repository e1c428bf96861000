"""A channel: what its devices are offered. A small JSON file in the repository, signed with everything else there.

channels/stable.json                     this description
ic/ic-8.bundle                           the full file, always there
ic/ic-8.from-0123456789abcdef.delta      the same from the file whose SHA-256 starts so, where that is much smaller
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeloop.bundle.checked import canonical_json, parse_json
from edgeloop.bundle.limits import MAX_TOTAL_BYTES, MAX_VERSION, NAME_PATTERN, SHA256_PATTERN
from edgeloop.errors import RefusedError

FORMAT = "edgeloop-channel"
SCHEMA = 1
MAX_CHANNEL_BYTES = 256 << 10
"""What a device downloads at most for the description of its channel."""
MAX_OFFERS = 256
MAX_DELTAS = 8
MAX_TAGS = 32
MAX_TEXT = 500

ACTIVE, PAUSED, HALTED = "active", "paused", "halted"
STATES = (ACTIVE, PAUSED, HALTED)
"""active: devices in the cohort take it. paused: by hand, none does. halted: by what telemetry showed, none does."""
BUNDLE, AGENT, CONFIG = "bundle", "agent", "config"
KINDS = (BUNDLE, AGENT, CONFIG)
"""Of what is offered, and how the files' names end."""

_NEWER = "this channel was made by a newer edgeloop: update this one"


@dataclass(frozen=True)
class Delta:
    """A way to the offered file from another. from_sha256: hex, of the file it starts from. bytes: of the delta."""

    from_sha256: str
    target_path: str
    bytes: int


@dataclass(frozen=True)
class Offer:
    """One version of one bundle, or of the agent or a config, and who takes it.

    sha256, bytes: of the file. for_target: the target it was made for; of an agent the platform (`agent_platform`), ""
    where any will do. percent: 0..100 of the devices. tags: only
    devices that have one of them; () all. reason: why it is paused or halted. p95_ms: the budget of one inference.
    since_s: unix time from which on what devices report counts against it: it was published or resumed then.
    """

    name: str
    version: int
    sha256: str
    bytes: int
    for_target: str
    percent: float = 100.0
    tags: tuple[str, ...] = ()
    state: str = ACTIVE
    reason: str = ""
    p95_ms: float | None = None
    since_s: int = 0
    deltas: tuple[Delta, ...] = ()
    kind: str = BUNDLE

    @property
    def target_path(self) -> str:
        """Of the full file, in the repository."""
        return file_path(self.name, self.version, self.kind)

    def delta_from(self, sha256: str) -> Delta | None:
        """The delta that starts from the file with that SHA-256 (hex)."""
        return next((delta for delta in self.deltas if delta.from_sha256 == sha256), None)


@dataclass(frozen=True)
class Channel:
    """serial: one more with every change of the channel."""

    channel: str
    serial: int
    offers: tuple[Offer, ...] = ()

    def to_json(self) -> bytes:
        """The bytes of the file; `from_json` takes them back."""
        offers = [_offer_to_dict(offer) for offer in self.offers]
        body = {"format": FORMAT, "schema": SCHEMA, "channel": self.channel, "serial": self.serial, "offers": offers}
        return canonical_json(body)

    @staticmethod
    def from_json(raw: bytes) -> Channel:
        """Everything checked, also that paths are those of names and versions. Raises RefusedError, for unknown keys,
        too: they may say who must not take it.
        """
        if len(raw) > MAX_CHANNEL_BYTES:
            raise RefusedError(f"the channel's description is larger than {MAX_CHANNEL_BYTES >> 10} KiB")
        data = parse_json(raw, "the channel's description")
        if data.get("format") != FORMAT:
            raise RefusedError("this is no description of a channel")
        if data.get("schema") != SCHEMA:
            raise RefusedError(f"a channel's description of schema {data.get('schema')!r:.20}", hint=_NEWER)
        _no_others(data, {"format", "schema", "channel", "serial", "offers"})
        channel = Channel(
            channel=_name(data, "channel"),
            serial=_integer(data, "serial", 0, MAX_VERSION),
            offers=tuple(_offer(item) for item in _tables(data, "offers", MAX_OFFERS)),
        )
        if len({(offer.name, offer.version) for offer in channel.offers}) != len(channel.offers):
            raise _wrong("offers", "the same version twice")
        return channel


def file_path(name: str, version: int, kind: str = BUNDLE) -> str:
    """Where the full file is in the repository."""
    return f"{name}/{name}-{version}.{kind}"


def agent_platform(machine: str, python: tuple[int, int]) -> str:
    """What an agent was made for, as an offer says it; "" for any."""
    return f"{machine} python{python[0]}.{python[1]}" if machine and python != (0, 0) else machine


def delta_path(name: str, version: int, from_sha256: str) -> str:
    """Where the delta from the file with that SHA-256 (hex) is."""
    return f"{name}/{name}-{version}.from-{from_sha256[:16]}.delta"


def channel_path(channel: str) -> str:
    """Where the description of a channel is."""
    return f"channels/{channel}.json"


def _offer_to_dict(offer: Offer) -> dict[str, Any]:
    return {
        "name": offer.name,
        "version": offer.version,
        "target_path": offer.target_path,
        "sha256": offer.sha256,
        "bytes": offer.bytes,
        "for_target": offer.for_target,
        "kind": offer.kind,
        "percent": _plain(offer.percent),
        "tags": list(offer.tags),
        "state": offer.state,
        "reason": offer.reason,
        "p95_ms": None if offer.p95_ms is None else _plain(offer.p95_ms),
        "since_s": offer.since_s,
        "deltas": [dict(vars(delta)) for delta in offer.deltas],
    }


def _plain(number: float) -> float | int:
    return int(number) if number == int(number) else number


def _offer(data: Mapping[str, Any]) -> Offer:
    known = {"name", "version", "target_path", "sha256", "bytes", "for_target", "percent", "tags", "state", "reason"}
    _no_others(data, known | {"p95_ms", "since_s", "deltas", "kind"})
    name, version = _name(data, "name"), _integer(data, "version", 1, MAX_VERSION)
    state = _text(data, "state")
    if state not in STATES:
        raise RefusedError(f"the channel's description: an offer in the state {state!r:.40}", hint=_NEWER)
    kind = _text(data, "kind")
    if kind not in KINDS:
        raise RefusedError(f"the channel's description: an offer of the kind {kind!r:.40}", hint=_NEWER)
    offer = Offer(
        kind=kind,
        name=name,
        version=version,
        sha256=_sha256(data, "sha256"),
        bytes=_integer(data, "bytes", 1, MAX_TOTAL_BYTES),
        for_target=_text(data, "for_target"),
        percent=_number(data, "percent", 100.0),
        tags=tuple(_tag(tag) for tag in _list(data, "tags", MAX_TAGS)),
        state=state,
        reason=_text(data, "reason"),
        p95_ms=None if data.get("p95_ms") is None else _number(data, "p95_ms", 1e9),
        since_s=_integer(data, "since_s", 0, MAX_VERSION),
        deltas=tuple(_delta(item, name, version) for item in _tables(data, "deltas", MAX_DELTAS)),
    )
    if data.get("target_path") != offer.target_path:
        raise _wrong("target_path", f"of {name} {version} it is {offer.target_path}")
    return offer


def _delta(data: Mapping[str, Any], name: str, version: int) -> Delta:
    _no_others(data, {"from_sha256", "target_path", "bytes"})
    start = _sha256(data, "from_sha256")
    path = delta_path(name, version, start)
    if data.get("target_path") != path:
        raise _wrong("target_path", f"of this delta it is {path}")
    return Delta(start, path, _integer(data, "bytes", 1, MAX_TOTAL_BYTES))


def _wrong(key: str, what: str) -> RefusedError:
    return RefusedError(f"the channel's description: '{key}': {what}")


def _no_others(data: Mapping[str, Any], known: set[str]) -> None:
    others = sorted(data.keys() - known)
    if others:
        raise RefusedError(f"the channel's description has {others[0]!r:.40}, unknown here", hint=_NEWER)


def _list(data: Mapping[str, Any], key: str, longest: int) -> list[Any]:
    value = data.get(key)
    if not isinstance(value, list) or len(value) > longest:
        raise _wrong(key, f"must be a list of at most {longest}")
    return value


def _tables(data: Mapping[str, Any], key: str, longest: int) -> list[dict[str, Any]]:
    items = _list(data, key, longest)
    if not all(isinstance(item, dict) for item in items):
        raise _wrong(key, "must be a list of tables")
    return items


def _name(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not NAME_PATTERN.fullmatch(value):
        raise _wrong(key, "letters, digits, '.', '_' and '-' only, at most 64")
    return value


def _tag(value: Any) -> str:
    if not isinstance(value, str) or not NAME_PATTERN.fullmatch(value):
        raise _wrong("tags", "letters, digits, '.', '_' and '-' only, at most 64")
    return value


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or len(value) > MAX_TEXT or not (value == "" or value.isprintable()):
        raise _wrong(key, f"must be one line of at most {MAX_TEXT} characters")
    return value


def _sha256(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not SHA256_PATTERN.fullmatch(value):
        raise _wrong(key, "must be a SHA-256 in hex")
    return value


def _integer(data: Mapping[str, Any], key: str, lowest: int, highest: int) -> int:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise _wrong(key, f"must be an integer from {lowest} to {highest}")
    return value


def _number(data: Mapping[str, Any], key: str, highest: float) -> float:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= highest:
        raise _wrong(key, f"must be a number from 0 to {highest:g}")
    return float(value)
