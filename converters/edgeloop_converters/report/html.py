"""Markup as values: text is escaped when it goes in, once, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


class Markup(str):
    """Text that is markup already. Only `tag` and `join` make it, out of escaped parts."""

    __slots__ = ()


def tag(name: str, *content: object, **attributes: object) -> Markup:
    """`<name ...>content</name>`. Strings are escaped; None content and None attributes are left out.

    Attribute names: a trailing `_` is dropped and `_` becomes `-` (`class_="x"`, `stroke_width=2`).
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*content)}</{name}>")


def join(*content: object) -> Markup:
    """Parts one after the other; lists and generators are flattened."""
    return Markup("".join(_markup(part) for part in content))


def table(head: Iterable[object], rows: Iterable[Iterable[object]], *, class_: str | None = None) -> Markup:
    """A table in a box that scrolls sideways on a narrow screen."""
    body = tag("tbody", (tag("tr", (_cell(c) for c in row)) for row in rows))
    header = tag("thead", tag("tr", (tag("th", c, scope="col") for c in head)))
    return tag("div", tag("table", header, body, class_=class_), class_="scroll")


def definitions(pairs: Iterable[tuple[object, object]]) -> Markup:
    """A list of names and values; pairs without a value are left out."""
    return tag("dl", ((tag("dt", k), tag("dd", v)) for k, v in pairs if v not in (None, "")))


def _cell(content: object) -> Markup:
    return content if isinstance(content, Markup) and content.startswith("<td") else tag("td", content)


def _markup(part: object) -> str:
    if part is None:
        return ""
    if isinstance(part, Markup):
        return part
    if isinstance(part, (str, int, float)):
        return escape(_text(part))
    if isinstance(part, Iterable):
        return "".join(_markup(p) for p in part)
    return escape(str(part))


def _text(value: object) -> str:
    # Control characters and lone surrogates are no valid HTML or UTF-8, whatever a label may hold.
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return "".join(c if (c >= " " and not 0xD800 <= ord(c) <= 0xDFFF) or c in "\n\t" else "\ufffd" for c in text)


_VOID = frozenset({"meta", "br", "hr", "img", "link"})
