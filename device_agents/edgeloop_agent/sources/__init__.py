"""Where frames come from, by URL: `camera:0`, `folder:DIR`, `rtsp://...`. A new source: one file, one line in SOURCES;
tests/conformance/test_sources.py runs on all.

The supervisor parses and checks the text (this module imports no numpy); the worker opens it.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgeloop.contract import InputSpec
from edgeloop.errors import UsageError
from edgeloop_agent import url_options as option
from edgeloop_agent.sources.places import PLACES
from edgeloop_agent.url_options import Option

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Frame = npt.NDArray[Any]


@dataclass(frozen=True)
class SourceKind:
    """`opener`: "module:function" called as (spec, wanted, skip=, loop=); `place`: what stands behind the scheme, a
    name in PLACES; `example`: for the hint; `several`: whether it can feed a model with several inputs."""

    opener: str
    place: str
    example: str
    options: Mapping[str, Option] = field(default_factory=dict)
    several: bool = False


_STREAM = "edgeloop_agent.sources.stream:open_stream"
_PICTURE = {"size": option.size, "fps": option.number(0.01, 1000)}
MAX_BAUD = 4_000_000

SOURCES: Mapping[str, SourceKind] = {
    "camera": SourceKind(
        "edgeloop_agent.sources.camera:open_camera", "camera", "camera:0?size=640x480",
        {**_PICTURE, "format": option.one_of("mjpg", "yuyv")},
    ),
    "csi": SourceKind(
        "edgeloop_agent.sources.csi:open_csi", "number", "csi:?size=640x480&fps=30",
        {**_PICTURE, "format": option.one_of("mjpeg", "yuv420")},
    ),
    "rtsp": SourceKind(_STREAM, "url", "rtsp://HOST/PATH"),
    "http": SourceKind(_STREAM, "url", "http://HOST/PATH"),
    "https": SourceKind(_STREAM, "url", "https://HOST/PATH"),
    "video": SourceKind("edgeloop_agent.sources.video:open_video", "file", "video:FILE", {"live": option.switch}),
    "folder": SourceKind("edgeloop_agent.sources.folder:open_folder", "folder", "folder:DIR", {"watch": option.switch}),
    "npz": SourceKind("edgeloop_agent.sources.npz:NpzSource", "file", "npz:FILE", several=True),
    "serial": SourceKind(
        "edgeloop_agent.sources.serial_lines:open_serial", "port", "serial:///dev/ttyUSB0?baud=115200",
        {"baud": option.whole(50, MAX_BAUD), "format": option.one_of("csv", "json"), "keys": option.names,
         "window": option.whole(1, 1_000_000), "hop": option.whole(1, 1_000_000)},
        several=True,
    ),
    "wav": SourceKind(
        "edgeloop_agent.sources.wav:WavSource", "file", "wav:FILE?window=1&hop=0.5",
        {"window": option.number(1e-4, 3600), "hop": option.number(1e-4, 3600), "rate": option.whole(1, 1_000_000),
         "values": option.one_of("unit", "int16")},
    ),
    "synthetic": SourceKind(
        "edgeloop_agent.sources.synthetic:SyntheticSource", "nothing", "synthetic:?seed=7",
        {"seed": option.whole(0, 2**63)}, several=True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class SourceSpec:
    """A parsed `--source`. `str(spec)` is for people and for reports: without passwords and tokens."""

    scheme: str
    path: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    shown: str = ""

    def __str__(self) -> str:
        return self.shown or f"{self.scheme}:{self.path}"


@dataclass(frozen=True)
class Wanted:
    """What the model takes: the contract's input, and the input tensor's shape, dtype and range of real values.

    others: the same for each further input of a model with several; a frame is then a dictionary by input name.
    """

    input: InputSpec
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    lowest: float
    highest: float
    others: tuple[Wanted, ...] = ()

    @property
    def every(self) -> tuple[Wanted, ...]:
        """All inputs, in the model's order."""
        return (self, *self.others)


class Source(Protocol):
    """A stream of frames, as `edgeloop.preprocess` takes them: uint8 BGR or gray pictures, or arrays; for a model with
    several inputs dictionaries of them. One whose frames come by themselves is a `live.LiveSource`."""

    def read(self) -> tuple[Any, str] | None:
        """The next frame and its name (a file name, a frame number); None at the end.

        Raises DataError for a frame that cannot be decoded: it counts as a frame, and the next call goes on behind it.
        Raises DeviceError when the source itself is lost.
        """

    def close(self) -> None:
        """Let go of it; again is no error."""


def parse_source(text: str) -> SourceSpec:
    """`SCHEME:PLACE[?key=value&...]` to a SourceSpec whose file or folder is there. Raises UsageError, DataError."""
    scheme, colon, rest = text.partition(":")
    kind = SOURCES.get(scheme)
    if not colon or kind is None:
        raise UsageError(f"source {option.without_secrets(text)!r} is not known", hint=_nearest(text))
    place = PLACES[kind.place](scheme, rest, kind.example)
    values = option.read_options(place.query, kind.options, f"source {text!r}", kind.example)
    return SourceSpec(scheme, place.path, values, place.shown)


def _nearest(text: str) -> str:
    """A path without its scheme is what people give first; the next is a misspelt scheme."""
    scheme, colon, rest = text.partition(":")
    path = Path(text)
    if text and path.is_dir():
        return f"folder:{text}"
    if (device := re.match(r"/dev/(video|tty)", text)) is not None:
        return f"camera:{text}" if device[1] == "video" else f"serial://{text}"
    by_suffix = {".npz": "npz", ".wav": "wav", ".mp4": "video", ".avi": "video"}.get(path.suffix.lower())
    if by_suffix is not None and path.is_file():
        return f"{by_suffix}:{text}"
    meant = option.nearest_scheme(scheme, SOURCES)
    if meant is not None and (colon or not rest):
        return (
            f"did you mean {meant}:{option.without_secrets(rest)}?" if rest else f"for example {SOURCES[meant].example}"
        )
    return f"one of {', '.join(each.example.partition('?')[0] for each in SOURCES.values())}"


def open_source(spec: SourceSpec, wanted: Wanted, *, skip: int = 0, loop: bool = False) -> Source:
    """Open it, past the first `skip` frames; with `loop` it starts over at its end. Live sources go on where they are:
    both mean nothing to them. Raises DataError, UsageError.
    """
    kind = SOURCES[spec.scheme]
    if wanted.others and not kind.several:
        names = ", ".join(each.input.name for each in wanted.every)
        raise UsageError(
            f"source {spec}: one frame at a time, and the model has {len(wanted.every)} inputs ({names})",
            hint="npz:FILE with an array per input, called so",
        )
    module, _, name = kind.opener.partition(":")
    source: Source = getattr(importlib.import_module(module), name)(spec, wanted, skip=skip, loop=loop)
    return source
