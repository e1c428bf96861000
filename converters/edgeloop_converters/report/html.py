"""Markup as values: text is escaped when it goes in, once, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    """A table in a box that scrolls sideways on a narrow screen; the first cell of a row is its header."""
    body = tag("tbody", (tag("tr", (_cell(c, i == 0) for i, c in enumerate(row))) for row in rows))
    header = tag("thead", tag("tr", (tag("th", c, scope="col") for c in head)))
    # Focusable, so that it can be scrolled from the keyboard.
    return tag("div", tag("table", header, body, class_=class_), class_="scroll", tabindex=0)


def columns_in_use(head: Sequence[object], rows: Sequence[Sequence[object]], *, class_: str | None = None) -> Markup:
    """`table` without the columns in which no row has anything."""
    used = [i for i in range(len(head)) if any(row[i] not in ("", None) for row in rows)]
    return table([head[i] for i in used], [[row[i] for i in used] for row in rows], class_=class_)


def section(anchor: str, title: str, *content: object) -> Markup:
    """A titled part of the page that the list of contents can point to."""
    return tag("section", tag("h2", title), *content, id=anchor)


def soft(*content: object) -> Markup:
    """A paragraph of explanation."""
    return tag("p", *content, class_="soft")


def folded(title: str, *content: object, is_open: bool = False) -> Markup:
    """Content behind a line that opens it; print shows it all the same."""
    return tag("details", tag("summary", title), *content, open="" if is_open else None)


def definitions(pairs: Iterable[tuple[object, object]]) -> Markup:
    """A list of names and values; pairs without a value are left out."""
    return tag("dl", ((tag("dt", k), tag("dd", v)) for k, v in pairs if v not in (None, "")))


def _cell(content: object, is_head: bool) -> Markup:
    return tag("th", content, scope="row") if is_head else tag("td", content)


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
