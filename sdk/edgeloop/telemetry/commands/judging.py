"""Whether a device obeys a command: a pure function of the command and of what the device is and has accepted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeloop.bundle.trust import TrustStore
from edgeloop.telemetry.commands.codec import Envelope
from edgeloop.telemetry.commands.signing import signer
from edgeloop.telemetry.commands.values import KINDS, LOG_LEVELS, Kind

_LIMITS: Mapping[str, tuple[float, float]] = {
    "threads": (1, 64),
    "n": (1, 100_000),
    "timeout_s": (1, 3600),
    "version": (1, 2**53),
    "bytes": (1, 2**30),
    "unpacked_bytes": (0, 2**33),
    "max_p95": (1e-6, 1e9),
    "max_memory": (1e-3, 1e9),
}
_MAX_NAMES = 8


@dataclass(frozen=True)
class Standing:
    """A device as a command finds it. last_counter: the highest that was accepted in this boot."""

    device: str
    boot: str
    uptime_s: float
    last_counter: int
    operators: TrustStore


@dataclass(frozen=True)
class Accepted:
    """signed_by: the operator's fingerprint; "" for an open kind, which needs none."""

    signed_by: str = ""


@dataclass(frozen=True)
class Refused:
    """reason: one of a few fixed words, to be counted and said by; detail: a line for whoever asked.

    was_checked: a signature was computed over, which costs the device time.
    """

    reason: str
    detail: str
    was_checked: bool = False


def judge(envelope: Envelope, standing: Standing) -> Accepted | Refused:
    """The cheap questions come first: a signature is checked only where everything else holds."""
    command = envelope.command
    kind = KINDS.get(command.kind)
    if kind is None:
        return Refused("unknown kind", f"this device knows no command {command.kind!r}; it knows {', '.join(KINDS)}")
    if command.device not in ("", standing.device):
        return Refused("other device", "the command is for another device")
    if wrong := _wrong_arguments(kind, command.arguments):
        return Refused("wrong arguments", f"{command.kind}: {wrong}")
    if kind.is_open:
        return Accepted()
    if not envelope.key_id:
        return Refused("not signed", f"{command.kind} must be signed by an operator of this device")
    if command.device != standing.device or command.boot != standing.boot:
        return Refused("other boot", "the command is for another start of this agent: ask for `info` and sign again")
    if command.until_uptime_s <= standing.uptime_s:
        return Refused("expired", "the command has expired: sign it again")
    if command.counter <= standing.last_counter:
        return Refused("replayed", f"its counter {command.counter} is not above {standing.last_counter}")
    signed_by = signer(envelope, standing.operators)
    if signed_by is None:
        return Refused("unknown signer", "it is not signed by an operator of this device", was_checked=True)
    return Accepted(signed_by)


def _wrong_arguments(kind: Kind, arguments: Mapping[str, Any]) -> str:
    """The first thing that is wrong with them; "" where nothing is."""
    for name, value in arguments.items():
        types = kind.arguments.get(name)
        if types is None:
            return f"no argument {name!r}"
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            return f"{name} is not {types[0].__name__}"
        low, high = _LIMITS.get(name, (float("-inf"), float("inf")))
        if isinstance(value, (int, float)) and not low <= value <= high:
            return f"{name} is not in {low:g}..{high:g}"
        if isinstance(value, list) and not (len(value) <= _MAX_NAMES and all(isinstance(x, str) and x for x in value)):
            return f"{name} is not a list of at most {_MAX_NAMES} names"
    if "level" in kind.arguments and arguments.get("level") not in LOG_LEVELS:
        return f"level is none of {', '.join(LOG_LEVELS)}"
    return ""
