"""What `edgeloop` and `edgeloop-agent` have in common: wrong use, surprises and JSON in the form DESIGN promises."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any, NoReturn

from edgeloop.errors import EXIT_DEVICE, DeviceError, EdgeloopError, UsageError

DEBUG_VARIABLE = "EDGELOOP_DEBUG"


class DefectError(EdgeloopError):
    """Something edgeloop did not foresee. Neither a missed goal (1) nor wrong use (2)."""

    exit_code = EXIT_DEVICE


class ArgumentParser(argparse.ArgumentParser):
    """Wrong use raises UsageError, one line with the command that helps, instead of printing all flags."""

    help_command = ""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=self.help_command or f"{self.prog} --help")


def as_edgeloop_error(error: Exception) -> EdgeloopError:
    """One line for what nobody caught: the operating system's refusals, and defects of edgeloop."""
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    if isinstance(error, EdgeloopError):
        return error
    if isinstance(error, (ConnectionError, TimeoutError)):
        return DeviceError(f"a connection failed: {error.strerror or error or type(error).__name__}")
    if isinstance(error, OSError) and error.strerror:
        return UsageError(f"{error.filename or 'the operating system'}: {error.strerror}")
    if isinstance(error, MemoryError):
        return DefectError("out of memory", hint="close other programs, or give less data")
    what = " ".join(str(error).split())[:300]
    return DefectError(
        f"a defect in edgeloop: {type(error).__name__}" + (f": {what}" if what else ""),
        hint=f"{DEBUG_VARIABLE}=1 shows where; please report it",
    )


def json_text(data: Mapping[str, Any]) -> str:
    """One line of JSON that stdout can take: file names may hold bytes that are no text, terminals may lack letters."""
    text = json.dumps(data, default=str, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")  # there is no stdout after `>&-`
    except UnicodeEncodeError:
        return json.dumps(data, default=str)
    return text


def error_body(error: EdgeloopError) -> dict[str, object]:
    """The value of the key "error"."""
    return {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}


def report_error(program: str, error: EdgeloopError, *, as_json: bool) -> int:
    """One line on stderr with the next step; with --json the same as an object on stdout. Returns the exit code."""
    _say(f"{program}: {error.message}" + (f"\n  -> {error.hint}" if error.hint else ""))
    if as_json:
        try:
            print(json_text({"error": error_body(error)}), flush=True)
        except OSError as trouble:  # a full disk or a closed pipe behind stdout
            _say(f"{program}: the result cannot be written: {trouble.strerror}")
            silence_stdout()
    return error.exit_code


def lenient_output() -> None:
    """Text that the terminal cannot show is escaped, not an error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and stream.errors == "strict":
            reconfigure(errors="backslashreplace")


def silence_stdout() -> None:
    """Nobody reads it any more: what is buffered must not fail again when Python ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):  # stdout is closed, or no file
        return


def _say(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        return
