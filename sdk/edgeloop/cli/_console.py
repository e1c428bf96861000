"""What a verb prints with: the result on stdout, everything else on stderr."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from edgeloop.mains import json_text
from edgeloop.progress import Advance

_LEAST_COLUMNS = 40
"""Narrower than this, wrapping only makes it longer."""


@dataclass
class Console:
    """`--json`: `result` prints one object on stdout. Otherwise `result` prints text there. Progress goes to stderr."""

    json: bool = False
    notes: list[str] = field(default_factory=list)

    def result(self, data: Mapping[str, Any], text: str) -> None:
        """The verb's answer: `data` for --json, `text` for people."""
        print(json_text(data) if self.json else text, flush=True)

    def note(self, text: str) -> None:
        """A line people should see, on stderr; wrapped between words on a terminal, whole elsewhere."""
        self.notes.append(text)
        print(_wrapped(text), file=sys.stderr, flush=True)

    @contextmanager
    def step(self, label: str, total: int | None = None) -> Iterator[Advance]:
        """A progress bar on a terminal; nothing elsewhere."""
        if not sys.stderr.isatty():
            yield lambda _count: None
            return
        try:
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress
        except ImportError:
            print(f"{label} ...", file=sys.stderr, flush=True)
            yield lambda _count: None
            return
        columns = [TextColumn("{task.description:<28}"), BarColumn(), TimeElapsedColumn()]
        if total is not None:
            columns[2:] = [MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
        with RichProgress(*columns, console=RichConsole(stderr=True)) as bar:
            task = bar.add_task(label, total=total)
            yield lambda count: bar.update(task, advance=count)
            if total is None:
                bar.update(task, total=1, completed=1)


def _wrapped(text: str) -> str:
    columns = os.get_terminal_size(sys.stderr.fileno()).columns if sys.stderr.isatty() else 0
    if columns < _LEAST_COLUMNS:  # 0: a terminal that nobody gave a size
        return text
    wrapper = textwrap.TextWrapper(columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(wrapper.fill(line) for line in text.split("\n"))
