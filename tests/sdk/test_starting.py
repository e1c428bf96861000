"""Ctrl-C while a program starts, and once it has ended."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

_PROGRAM = """
import atexit, os, signal, sys, time
from edgeloop.starting import start

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)

def load():
    {load}
    def main():
        {main}
        return 7
    return main

atexit.register(lambda: {after})
sys.exit(start("prog", load))
"""


def run(load: str = "pass", main: str = "pass", after: str = "None", **options: object) -> tuple[int, str]:
    code = _PROGRAM.format(load=load, main=main, after=after)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload]
    return done.returncode, done.stderr


@pytest.mark.parametrize("when", ["load", "main"])
def test_an_interruption_is_one_line(when: str) -> None:
    assert run(**{when: "interrupt()"}) == (130, "prog: interrupted\n")


def test_a_program_that_has_ended_keeps_its_exit_code() -> None:
    assert run() == (7, "")
    assert run(after="interrupt()") == (7, "")


def test_under_nohup_nothing_is_interrupted() -> None:
    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    assert run(load="interrupt()", main="interrupt()", preexec_fn=ignore) == (7, "")


def test_what_is_done_at_exit_is_done_and_nothing_printed_is_lost() -> None:
    code = (
        "import atexit, sys\nfrom edgeloop.starting import start\n"
        "def main():\n"
        "    atexit.register(lambda: print('done at exit'))\n"
        "    print('x' * 100_000)\n"
        "    return 3\n"
        "sys.exit(start('edgeloop', lambda: main))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert done.stdout == "x" * 100_000 + "\ndone at exit\n"
