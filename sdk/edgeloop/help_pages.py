"""Help pages that fit the terminal: prose is filled, and examples go on where a shell lets them."""

from __future__ import annotations

import argparse
import re
import textwrap
from itertools import groupby

_WITH_COMMENT = re.compile(r"(\s+\S.*?\S)\s{3,}(\S.*)")
"""An example, and behind a gap what it is for."""
_FLAG_AND_VALUE = re.compile(r"(?<=\s)(--?[\w-]+) (?=[^-\s])")
_GOES_ON = re.compile(r"\s*\\\n\s*")


class HelpFormatter(argparse.HelpFormatter):
    """For every verb. Lines that begin with a blank stay lines, all others are prose."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = [line.rstrip() for line in _GOES_ON.sub(" ", text.strip()).splitlines()]
        shown: list[str] = []
        for kind, group in groupby(lines, _kind):
            if kind == "prose":
                shown += _filled(" ".join(group), width)
            elif kind == "line":
                shown += [part for line in group for part in _broken(line, width)]
            else:
                shown += group
        return "\n".join(indent + line if line else line for line in shown)


def _kind(line: str) -> str:
    return "blank" if not line else "line" if line[0].isspace() else "prose"


def _filled(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _broken(line: str, width: int) -> list[str]:
    """The line, in several where it is too long: a comment stands below its command, which goes on behind a `\\`."""
    if len(line) <= width:
        return [line]
    found = _WITH_COMMENT.fullmatch(line)
    command, comment = found.groups() if found is not None else (line, "")
    indent = " " * (len(command) - len(command.lstrip()) + 4)
    together = _FLAG_AND_VALUE.sub("\\1\0", command.strip())
    parts = textwrap.wrap(
        together, width - 2, initial_indent=indent[4:], subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    shown = [part.replace("\0", " ") for part in parts]
    return [*(f"{part} \\" for part in shown[:-1]), *shown[-1:], *_indented(comment, indent, width)]


def _indented(text: str, indent: str, width: int) -> list[str]:
    return [indent + part for part in _filled(text, width - len(indent))]
