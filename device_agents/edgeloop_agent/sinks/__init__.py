"""Where results go, by URL: `jsonl:FILE`, `mqtt://HOST/TOPIC`. A new sink: one file, one line in SINKS. What cannot be
written is counted; the loop lives on.

The supervisor parses and checks the text (this module imports no numpy); the worker opens it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from edgeloop.errors import ConfigError, UsageError
from edgeloop_agent import url_options as option
from edgeloop_agent.url_options import Option

if TYPE_CHECKING:
    from edgeloop.postprocess import Result


class Sink(Protocol):
    """Every result that was written to it ends in `lines` (done) or `lost` (it could not be); `problem` says in a line
    what is wrong now ("" when all is well).

    closed: nobody will ever read what is written. wants_frame: `write` is to get the frame, too.
    """

    lines: int
    lost: int
    problem: str
    closed: bool
    wants_frame: bool

    def write(self, source: str, time_s: float, result: Result, latency_ms: float, frame: Any = None) -> None:
        """Never waits for the far end. time_s: unix seconds of the capture; latency_ms: from there to the result."""

    def flush(self) -> None:
        """Called every 20 ms or so, by one thread at a time."""

    def close(self) -> None:
        """Give what is still here a second to get away, and count the rest as lost."""


@dataclass(frozen=True)
class SinkKind:
    """`opener`: "module:class" called as (spec, where=); `place`: what stands behind the scheme: "path", "url" (with a
    path behind the host), "port" or "code"."""

    opener: str
    place: str
    example: str
    options: Mapping[str, Option] = field(default_factory=dict)


_QUEUE = {"queue": option.whole(1, 1_000_000)}
_MQTT = SinkKind(
    "edgeloop_agent.sinks.mqtt:MqttSink", "url", "mqtt://HOST/TOPIC",
    {**_QUEUE, "qos": option.whole(0, 1), "client": option.words, "password_file": option.words, "ca": option.words},
)  # fmt: skip

SINKS: Mapping[str, SinkKind] = {
    "jsonl": SinkKind("edgeloop_agent.sinks.json_lines:JsonLines", "path", "jsonl:FILE"),
    "mqtt": _MQTT,
    "mqtts": _MQTT,
    "serial": SinkKind(
        "edgeloop_agent.sinks.serial_line:SerialLine", "port", "serial:///dev/ttyUSB0?baud=115200",
        {**_QUEUE, "baud": option.whole(50, 4_000_000)},
    ),
    "snapshots": SinkKind(
        "edgeloop_agent.sinks.snapshots:Snapshots", "path", "snapshots:DIR?every=10&keep=100",
        {"every": option.number(0, 86400), "keep": option.whole(1, 1_000_000), "free": option.number(0, 1e6)},
    ),
    "call": SinkKind("edgeloop_agent.sinks.callback:Callback", "code", "call:MODULE:FUNCTION"),
}  # fmt: skip


@dataclass(frozen=True)
class SinkSpec:
    """A parsed `--sink`. `str(spec)` is for people and for reports: without passwords."""

    scheme: str
    path: str
    options: Mapping[str, Any] = field(default_factory=dict)
    shown: str = ""

    def __str__(self) -> str:
        return self.shown or f"{self.scheme}:{self.path}"


@dataclass(frozen=True)
class Surroundings:
    """What a sink has to know of its worker. stdout_fd: where `jsonl:-` goes; is_rgb: pictures are RGB, not BGR."""

    stdout_fd: int = 1
    is_rgb: bool = False


def parse_sink(text: str) -> SinkSpec:
    """`SCHEME:PLACE[?key=value&...]`. Raises UsageError."""
    scheme, colon, rest = text.partition(":")
    kind = SINKS.get(scheme)
    if not colon or kind is None or not rest:
        examples = ", ".join(dict.fromkeys(each.example.partition("?")[0] for each in SINKS.values()))
        hint = f"one of {examples}" if colon or not text else f"jsonl:{text}, or one of {examples}"
        if colon and kind is None and (meant := option.nearest_scheme(scheme, SINKS)):
            hint = f"did you mean {meant}:{option.without_secrets(rest.partition('?')[0])}?"
        raise UsageError(f"sink {option.without_secrets(text.partition('?')[0])!r} is not known", hint=hint)
    if kind.place == "path" and not kind.options:
        return SinkSpec(scheme, rest)
    path, _, query = rest.partition("?")
    shown = f"{scheme}:{path}"
    if kind.place in ("url", "port"):
        parts = _split(text, kind)
        path, query = (text, parts.query) if kind.place == "url" else (unquote(parts.path), parts.query)
        shown = f"{scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"  # without user and password
    elif kind.place == "code" and not all(part.isidentifier() for part in rest.replace(":", ".").split(".")):
        raise UsageError(f"sink {text!r} names no function", hint=kind.example)
    return SinkSpec(scheme, path, option.read_options(query, kind.options, f"sink '{shown}'", kind.example), shown)


def open_sink(text: str, surroundings: Surroundings | None = None) -> Sink:
    """Open a sink. Far ends that are away are no error: they may come. Raises UsageError."""
    spec = parse_sink(text)
    module, _, name = SINKS[spec.scheme].opener.partition(":")
    sink: Sink = getattr(importlib.import_module(module), name)(spec, where=surroundings or Surroundings())
    return sink


def refuse_code(sinks: Iterable[str], file: str) -> None:
    """Code is named on the command line and nowhere else. Raises ConfigError."""
    for text in sinks:
        kind = SINKS.get(text.partition(":")[0])
        if kind is not None and kind.place == "code":
            raise ConfigError(f"{file}: sink {text!r} runs code, which a file cannot ask for", hint=f"--sink {text}")


def _split(text: str, kind: SinkKind) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises for one that is no number
    except ValueError as error:
        raise UsageError(f"sink {text.partition('?')[0]!r}: {error}", hint=kind.example) from None
    complete = bool(parts.hostname) == (kind.place == "url") and len(parts.path) > 1
    if not complete:
        raise UsageError(f"sink '{text.partition(':')[0]}:...' is not complete", hint=f"for example {kind.example}")
    return parts
