"""Where frames come from: `folder:DIR`, `npz:FILE`, `video:FILE`, `synthetic:`. A new source: one file, one line.

The supervisor parses and checks the text (this module imports no numpy); the worker opens it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl

from edgeloop.contract import InputSpec
from edgeloop.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Frame = npt.NDArray[Any]


@dataclass(frozen=True)
class SourceKind:
    """`opener`: "module:function" called as (spec, wanted, skip=, loop=); `needs`: what the path must be; `several`:
    whether it can feed a model with several inputs."""

    opener: str
    needs: str  # "folder" | "file" | "nothing"
    options: frozenset[str] = frozenset()
    several: bool = False


SOURCES: Mapping[str, SourceKind] = {
    "folder": SourceKind("edgeloop_agent.sources.folder:FolderSource", "folder"),
    "npz": SourceKind("edgeloop_agent.sources.npz:NpzSource", "file", several=True),
    "video": SourceKind("edgeloop_agent.sources.video:VideoSource", "file"),
    "synthetic": SourceKind(
        "edgeloop_agent.sources.synthetic:SyntheticSource", "nothing", frozenset({"seed"}), several=True
    ),
}


@dataclass(frozen=True)
class SourceSpec:
    """A parsed `--source`. `str(spec)` gives the text back."""

    scheme: str
    path: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        query = "&".join(f"{k}={v}" for k, v in self.options.items())
        return f"{self.scheme}:{self.path}" + (f"?{query}" if query else "")


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
    several inputs dictionaries of them."""

    def read(self) -> tuple[Any, str] | None:
        """The next frame and its name (a file name, a frame number); None at the end.

        Raises DataError for a frame that cannot be decoded: it counts as a frame, and the next call goes on behind it.
        Raises DeviceError when the source itself is lost.
        """

    def close(self) -> None: ...


def parse_source(text: str) -> SourceSpec:
    """`SCHEME:PATH[?key=value&...]` to a SourceSpec whose path is there. Raises UsageError, DataError."""
    scheme, colon, rest = text.partition(":")
    kind = SOURCES.get(scheme)
    if not colon or kind is None:
        raise UsageError(f"source {text!r} is not known", hint="folder:DIR, npz:FILE, video:FILE or synthetic:")
    if kind.needs == "nothing":
        path, _, query = rest.partition("?")
        options = dict(parse_qsl(query, keep_blank_values=True))
        unknown = set(options) - kind.options
        if path or unknown:
            wrong = path or sorted(unknown)[0]
            raise UsageError(f"source {text!r}: {wrong!r} is not an option", hint=f"options: {', '.join(kind.options)}")
        return SourceSpec(scheme, "", options)
    if not rest:
        raise UsageError(f"source {text!r}: the {kind.needs} is missing", hint=f"{scheme}:{kind.needs.upper()}")
    place = Path(rest).expanduser()
    if not place.exists():
        raise DataError(f"source {text}: no such {kind.needs}")
    if (kind.needs == "folder") != place.is_dir():
        raise DataError(f"source {text}: not a {kind.needs}")
    return SourceSpec(scheme, str(place))


def open_source(spec: SourceSpec, wanted: Wanted, *, skip: int = 0, loop: bool = False) -> Source:
    """Open it, past the first `skip` frames; with `loop` it starts over at its end. Raises DataError, UsageError."""
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
