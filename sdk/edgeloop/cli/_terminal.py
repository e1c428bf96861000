"""What a terminal can show, and a screen on it that is drawn again and again: over SSH, too, with few bytes."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

PLAIN, BOLD, DIM, ALARM = "", "1", "2", "31"
"""Styles of a line, as SGR parameters."""

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_BARS = "▁▂▃▄▅▆▇█"
_PLAIN_BARS = "_.-=+*#@"


@dataclass(frozen=True)
class Line:
    """One line of text; `style` for all of it."""

    text: str
    style: str = PLAIN


@dataclass(frozen=True)
class Look:
    """columns: of the terminal, 80 where there is none. utf8: whether more than ASCII can be shown."""

    columns: int = 80
    rows: int = 24
    utf8: bool = True
    color: bool = False

    def bars(self, values: Sequence[float], cells: int) -> str:
        """The last `cells` values as a sparkline, from the lowest to the highest of them."""
        levels = _BARS if self.utf8 else _PLAIN_BARS
        shown = values[-cells:] if cells > 0 else ()
        if not shown:
            return ""
        low, span = min(shown), max(shown) - min(shown)
        steps = len(levels) - 1
        return "".join(levels[round((value - low) / span * steps) if span else 0] for value in shown)

    def plain(self, text: str) -> str:
        """Without control characters, and without what the terminal cannot show; a device or collector chose it."""
        return "".join(c if c.isprintable() and (self.utf8 or c.isascii()) else "?" for c in text)

    def fit(self, text: str, cells: int, *, right: bool = False) -> str:
        """Exactly `cells` wide: padded, or cut with a mark."""
        text = self.plain(text[: 4 * cells + 4])
        if width(text) > cells:
            mark = "…" if self.utf8 else "~"
            while text and width(text) > cells - 1:
                text = text[:-1]
            text += mark if cells else ""
        pad = " " * (cells - width(text))
        return pad + text if right else text + pad

    def styled(self, line: Line) -> str:
        if not self.color or not line.style:
            return line.text
        return f"\x1b[{line.style}m{line.text}\x1b[0m"


def width(text: str) -> int:
    """Cells that a terminal takes for it."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def look(environment: Mapping[str, str] = os.environ) -> Look:
    """Of stdout, now. No color where it is no terminal, where NO_COLOR is set (no-color.org) and on a dumb one."""
    is_terminal = sys.stdout.isatty()
    size = shutil.get_terminal_size((80, 24)) if is_terminal else os.terminal_size((80, 24))
    columns = size.columns
    if not is_terminal and environment.get("COLUMNS", "").isdecimal():
        columns = int(environment["COLUMNS"])
    color = is_terminal and not environment.get("NO_COLOR") and environment.get("TERM", "dumb") != "dumb"
    is_utf8 = "utf" in (sys.stdout.encoding or "").lower() and locale_is_utf8(environment)
    return Look(max(20, columns), max(5, size.lines), is_utf8, color)


def locale_is_utf8(environment: Mapping[str, str]) -> bool:
    """By the variables, in their order. Python itself sets LC_CTYPE=C.UTF-8 in a C locale (PEP 538): that one says
    nothing about the terminal."""
    names = [environment.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG")]
    if not names[0] and names[1].lower() in ("c.utf-8", "c.utf8", "utf-8"):
        names[1] = ""
    chosen = next((name for name in names if name), "")
    return "utf8" in chosen.lower().replace("-", "")


def is_interactive() -> bool:
    """Whether a screen can be drawn on stdout."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Screen:
    """The whole terminal while it lasts; what was there before comes back after it."""

    def __init__(self, wake_fd: int, keys_fd: int | None) -> None:
        self._wake_fd, self._keys_fd = wake_fd, keys_fd

    def draw(self, lines: Sequence[Line], look: Look) -> None:
        """From the top; no more lines than there are rows."""
        shown = [look.styled(line) + _CLEAR_LINE for line in lines[: look.rows]]
        sys.stdout.write(_HOME + "\n".join(shown) + _CLEAR_BELOW)
        sys.stdout.flush()

    def wait(self, seconds: float) -> str:
        """A key, or "" when the time is over or the terminal has another size."""
        until_s = time.monotonic() + seconds
        watched = [self._wake_fd, *([] if self._keys_fd is None else [self._keys_fd])]
        ready, _, _ = select.select(watched, [], [], max(0.0, until_s - time.monotonic()))
        if self._wake_fd in ready:
            os.read(self._wake_fd, 512)
        if self._keys_fd in ready:
            assert self._keys_fd is not None
            pressed = os.read(self._keys_fd, 64)
            if not pressed:  # the terminal's other end is gone
                self._keys_fd = None
            return pressed.decode("ascii", "ignore")[:1]
        return ""


@contextlib.contextmanager
def full_screen() -> Iterator[Screen]:
    """A Screen on stdout, with keys from stdin where that is a terminal, too. A change of size ends a wait."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, wake_read)
        undo.callback(os.close, wake_write)
        undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False))
        undo.callback(signal.signal, signal.SIGWINCH, signal.signal(signal.SIGWINCH, lambda *_: None))
        keys_fd = undo.enter_context(_single_keys())
        sys.stdout.write(_ENTER)
        sys.stdout.flush()
        undo.callback(_leave)
        yield Screen(wake_read, keys_fd)


def _leave() -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()


@contextlib.contextmanager
def _single_keys() -> Iterator[int | None]:
    """Keys as they are pressed, not shown; Ctrl-C stays what it is."""
    if not sys.stdin.isatty():
        yield None
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield descriptor
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
