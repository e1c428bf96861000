"""What a verb says on stderr: whole lines for files, wrapped ones for people."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

TEXT = "pruning: " + "one word after another " * 6 + "end\n  and a second line"
SAY = f"from edgeloop.cli._console import Console; Console().note({TEXT!r})"


def said_on_a_terminal(columns: int) -> str:
    """What appears on one of that width."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        subprocess.run([sys.executable, "-c", SAY], stderr=theirs, check=True)
        return os.read(ours, 4096).decode().replace("\r\n", "\n")
    finally:
        os.close(theirs)
        os.close(ours)


def test_a_note_is_wrapped_between_words_on_a_terminal() -> None:
    lines = said_on_a_terminal(60).splitlines()
    assert len(lines) > 3 and all(len(line) <= 60 for line in lines)
    assert all(line.startswith("  ") for line in lines[1:])
    assert " ".join(" ".join(lines).split()) == " ".join(TEXT.split())


def test_a_note_stays_one_line_where_no_width_is_known() -> None:
    assert said_on_a_terminal(0) == TEXT + "\n"
    done = subprocess.run([sys.executable, "-c", SAY], capture_output=True, text=True, check=True)
    assert done.stderr == TEXT + "\n"
