"""What may stand behind a source's scheme: a file, a folder, a camera, a whole URL, a serial port."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from edgeloop.errors import DataError, UsageError
from edgeloop.paths import missing_hint


@dataclass(frozen=True)
class Place:
    """`path`: what the source opens; `query`: its options as text; `shown`: the source for people and reports."""

    path: str
    query: str
    shown: str


def _existing(kind: str) -> Callable[[str, str, str], Place]:
    def find(scheme: str, rest: str, example: str) -> Place:
        if not rest:
            raise UsageError(f"source '{scheme}:': the {kind} is missing", hint=example)
        path, query = rest, ""
        if "?" in rest and not _expanded(rest).exists():  # a name may hold a question mark
            path, _, query = rest.rpartition("?")
        place = _expanded(path)
        if not place.exists():
            raise DataError(
                f"source {scheme}:{path}: no such {kind}", hint=missing_hint(place) or f"for example {example}"
            )
        if (kind == "folder") != place.is_dir():
            raise DataError(f"source {scheme}:{path}: not a {kind}")
        return Place(str(place), query, f"{scheme}:{place}")

    return find


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # ~ of somebody who is not known: then it is a name
        return Path(path)


def _nothing(scheme: str, rest: str, example: str) -> Place:
    path, _, query = rest.partition("?")
    if path:
        raise UsageError(f"source '{scheme}:{rest}': {path!r} is not an option", hint=f"for example {example}")
    return Place("", query, f"{scheme}:{rest}")


def _number(scheme: str, rest: str, example: str) -> Place:
    """Nothing or a number."""
    path, _, query = rest.partition("?")
    if path and not (path.isascii() and path.isdigit() and len(path) < 4):
        raise UsageError(f"source '{scheme}:{rest}': {path!r} is no camera's number", hint=f"for example {example}")
    return Place(path or "0", query, f"{scheme}:{path}")


def _camera(scheme: str, rest: str, example: str) -> Place:
    """A number, or a device file: whether it is there is for the one who connects to say, it may come later."""
    path, _, query = rest.partition("?")
    if not path.startswith("/dev/") and not (path.isascii() and path.isdigit() and len(path) < 4):
        raise UsageError(
            f"source '{scheme}:{rest}': {path!r} is no camera", hint=f"a number or a file in /dev, as in {example}"
        )
    return Place(path, query, f"{scheme}:{path}")


def _url(scheme: str, rest: str, example: str) -> Place:
    """The whole URL, its query included, is the far end's; user, password and query are nobody else's business."""
    url = f"{scheme}:{rest}"
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise UsageError(f"source {scheme}:...: {error}", hint=f"for example {example}") from None
    if not host or any(c.isspace() or not c.isprintable() for c in url):
        raise UsageError(f"source {scheme}:...: not a URL with a host", hint=f"for example {example}")
    host = f"[{host}]" if ":" in host else host
    at = f":{port}" if port is not None else ""
    return Place(url, "", f"{scheme}://{host}{at}{parts.path}")


def _port(scheme: str, rest: str, example: str) -> Place:
    try:
        parts = urlsplit(f"{scheme}:{rest}")
    except ValueError as error:
        raise UsageError(f"source '{scheme}:{rest}': {error}", hint=f"for example {example}") from None
    path = unquote(parts.path)
    if parts.netloc or not path.startswith("/") or "\0" in path:
        raise UsageError(f"source '{scheme}:{rest}' names no port", hint=f"for example {example}")
    return Place(path, parts.query, f"{scheme}://{path}")


PLACES: Mapping[str, Callable[[str, str, str], Place]] = {
    "file": _existing("file"),
    "folder": _existing("folder"),
    "nothing": _nothing,
    "number": _number,
    "camera": _camera,
    "url": _url,
    "port": _port,
}
"""Name -> (scheme, what follows its colon, example for the hint) -> Place. Raises UsageError, DataError."""
