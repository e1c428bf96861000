"""A command and its answer as values, and the table of what may be asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

LOG_LEVELS = ("warning", "info", "debug")

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]
"""What arguments and answers are made of."""


@dataclass(frozen=True)
class Kind:
    """What a command of one kind needs. is_open: anybody on the line may ask it, for it changes and costs nothing."""

    is_open: bool = False
    arguments: Mapping[str, tuple[type, ...]] = field(default_factory=dict)


_MEASURING: Mapping[str, tuple[type, ...]] = {
    "bundle": (str,),
    "version": (int,),
    "variants": (list,),
    "delegates": (list,),
    "threads": (int,),
    "n": (int,),
    "pause": (bool,),
    "timeout_s": (int, float),
}
_DEPLOYING: Mapping[str, tuple[type, ...]] = {
    "offer": (str,),
    "sha256": (str,),
    "bytes": (int,),
    "unpacked_bytes": (int,),
    "kind": (str,),
    "name": (str,),
    "version": (int,),
    "digest": (str,),
    "target": (str,),
    "may_go_back": (bool,),
    "max_p95": (int, float),
    "max_memory": (int, float),
    "again": (bool,),
}
KINDS: Mapping[str, Kind] = {
    "ping": Kind(is_open=True),
    "info": Kind(is_open=True),
    "report_now": Kind(),
    "log_level": Kind(arguments={"level": (str,)}),
    "bench": Kind(arguments=_MEASURING),
    "profile": Kind(arguments=_MEASURING),
    "delivery": Kind(is_open=True, arguments={"offer": (str,)}),
    "deploy": Kind(arguments=_DEPLOYING),
    "rollback": Kind(arguments={"name": (str,)}),
}
"""Everything that can be asked of a device, with the arguments it takes; each of them may be left out."""


@dataclass(frozen=True)
class Command:
    """id: 16 hex digits, random; the answer carries it. device: "" is whoever is on the line, for open kinds only.

    What is not open names the boot of the agent it is meant for, a counter above every one that was accepted in this
    boot, and until when it holds, in seconds of the agent's uptime: a device needs no clock to know.
    """

    kind: str
    id: str
    arguments: Mapping[str, Plain] = field(default_factory=dict)
    device: str = ""
    boot: str = ""
    counter: int = 0
    until_uptime_s: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What came of the command with this id: `body` where it went well, one line of `error` else."""

    id: str
    body: Mapping[str, Plain] = field(default_factory=dict)
    error: str = ""

    @property
    def is_ok(self) -> bool:
        return not self.error


def new_command_id() -> str:
    """16 random hex digits."""
    return os.urandom(8).hex()
