"""Delegates by name: how they are written on a command line and which library each one is. stdlib only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from edgeloop.errors import UsageError
from edgeloop.runtime.libedgetpu import KNOWN_GOOD


@dataclass(frozen=True)
class DelegateKind:
    """One row of `KINDS`. `library` is "" for what is built into the interpreter, or what dlopen() is asked for."""

    library: str = ""
    takes_device: bool = False
    fix: str = ""
    crash_fix: str = "the library does not fit this runtime; get one that was built for it"


KINDS: Mapping[str, DelegateKind] = {
    "cpu": DelegateKind(),
    "xnnpack": DelegateKind(),
    "edgetpu": DelegateKind(
        "libedgetpu.so.1",
        takes_device=True,
        fix=f"install one that was built for this runtime: {KNOWN_GOOD}",
        crash_fix=f"Google's own libedgetpu crashes with runtimes since 2.12: get {KNOWN_GOOD}",
    ),
    "gpu": DelegateKind(
        "libtensorflowlite_gpu_delegate.so",
        fix="no Python wheel carries a GPU delegate; build one and name it external:PATH, or use xnnpack",
    ),
    "external": DelegateKind(fix="check the path; the library must be built for this machine's architecture"),
}


@dataclass(frozen=True)
class DelegateSpec:
    """A way to run ops. `str(spec)` is its text form, which `parse_delegate` reads back.

    name: a key of `KINDS`; path: the library of "external"; options: passed to the delegate's library as text.
    """

    name: str
    path: str = ""
    options: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        text = self.name
        options = dict(self.options)
        if self.path:
            text += f":{self.path}"
        elif KINDS[self.name].takes_device and options.get("device"):
            text += f":{options.pop('device')}"
        if options:
            text += "?" + "&".join(f"{quote(k, safe='')}={quote(v, safe='/:,.')}" for k, v in options.items())
        return text

    @property
    def library(self) -> str:
        """What to load, "" for cpu and xnnpack."""
        return self.path or KINDS[self.name].library


@dataclass(frozen=True)
class DelegateFailure:
    """One delegate of a fallback order that could not be used: its text form, why, and the next step."""

    delegate: str
    reason: str
    fix: str = ""


def parse_delegate(text: str | DelegateSpec) -> DelegateSpec:
    """`cpu`, `xnnpack`, `gpu`, `edgetpu`, `edgetpu:usb:0`, `external:./libx.so?key=value&k2=v2`.

    Keys and values of options may be percent-encoded. Raises UsageError.
    """
    if isinstance(text, DelegateSpec):
        return text
    head, has_query, query = text.strip().partition("?")
    name, _, rest = head.partition(":")
    if name not in KINDS:
        raise UsageError(
            f"delegate {text!r} is not known", hint=f"one of: {', '.join(KINDS)} (external:PATH?key=value)"
        )
    options = _options(text, query) if has_query else {}
    kind = KINDS[name]
    if name == "external":
        if not rest:
            raise UsageError(f"delegate {text!r} names no library", hint="external:./libx.so?key=value")
        return DelegateSpec(name, rest, options)
    if rest and not kind.takes_device:
        raise UsageError(f"delegate {name!r} takes no device, got {rest!r}")
    if not kind.library and options:
        raise UsageError(f"delegate {name!r} takes no options", hint="only delegates that are a library have options")
    if rest:
        if rest.partition(":")[0] not in ("usb", "pci"):
            raise UsageError(f"delegate {text!r}: the device is not usb:N or pci:N", hint="for example edgetpu:usb:0")
        options = {"device": rest, **options}
    return DelegateSpec(name, "", options)


def _options(text: str, query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in query.split("&"):
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise UsageError(f"delegate {text!r}: {part!r} is not key=value", hint="external:./libx.so?key=value&k2=v2")
        if unquote(key) in options:
            raise UsageError(f"delegate {text!r}: option {unquote(key)!r} is given twice")
        options[unquote(key)] = unquote(value)
    return options
