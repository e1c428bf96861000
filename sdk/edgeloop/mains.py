"""What `edgeloop` and `edgeloop-agent` have in common: wrong use, surprises and JSON in the form DESIGN promises."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from edgeloop.errors import EXIT_DEVICE, DeviceError, EdgeloopError, MissingExtraError, UsageError, extra_of_module
from edgeloop.help_pages import HelpFormatter

DEBUG_VARIABLE = "EDGELOOP_DEBUG"


class DefectError(EdgeloopError):
    """Something edgeloop did not foresee. Neither a missed goal (1) nor wrong use (2)."""

    exit_code = EXIT_DEVICE


class ArgumentParser(argparse.ArgumentParser):
    """Wrong use raises UsageError, one line with the command that helps, instead of printing all flags."""

    help_command = ""
    _given: tuple[str, ...] = ()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "formatter_class": HelpFormatter})

    def error(self, message: str) -> NoReturn:
        has_verbs = any(isinstance(action, argparse._SubParsersAction) for action in self._actions)
        if message.startswith("the following arguments are required") and not has_verbs:  # one may be there, misspelt
            self.refuse_unknown([word for word in self._given if word.startswith("--")], or_else=message)
        if has_verbs and "invalid choice" in message:
            self._refuse_unknown_verb()
            first = self._given[0] if self._given else ""
            if (
                first.startswith("--") and "=" not in first and not self._is_flag(first)
            ):  # its value was taken for a verb
                raise UsageError(f"unknown flag {first}", hint=self.help_command or f"{self.prog} --help")
        raise UsageError(message, hint=self.help_command or f"{self.prog} --help")

    def _is_flag(self, word: str) -> bool:
        """Whether argparse takes it for one of ours, shortened or not."""
        return any(flag.startswith(word) for flag in self._option_string_actions)

    def _refuse_unknown_verb(self) -> None:
        """Raise UsageError where the first word is nearly a verb."""
        word = next((word for word in self._given if not word.startswith("-")), "")
        verbs = [name for a in self._actions if isinstance(a, argparse._SubParsersAction) for name in a.choices]
        near = difflib.get_close_matches(word, verbs, 1)
        if near and word not in verbs:
            hint = self.help_command or f"{self.prog} --help"
            raise UsageError(f"unknown verb {word}: did you mean {near[0]}?", hint=hint)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does; what is not known is refused with the verb's own usage and the nearest flag."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self._leaf(found).refuse_unknown(unknown)
        return found

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = tuple(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def refuse_unknown(self, words: Sequence[str], *, or_else: str = "") -> None:
        """Raise UsageError for the first flag among `words` that is no flag here, with the nearest that is one.

        or_else: an error that is said instead where no flag is near.
        """
        known = list(self._option_string_actions)
        for word in words:
            flag = word.split("=", 1)[0]
            near = difflib.get_close_matches(flag, known, 1) if word.startswith("-") and flag not in known else []
            if near:
                raise UsageError(f"unknown flag {flag}: did you mean {near[0]}?", hint=self.short_usage())
        if not or_else:
            what = "unknown flag" if words[0].startswith("-") else "unexpected argument"
            raise UsageError(f"{what} {words[0]}", hint=self.short_usage())

    def short_usage(self) -> str:
        """One line: what must be given, and where the flags are listed."""
        words = [self.prog]
        for action in self._actions:
            value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
            if not action.option_strings:
                words.append(f"[{value}]" if action.nargs in ("?", "*") else value)
            elif action.required and action.option_strings:
                words.append(f"{action.option_strings[-1]} {value}")
        return f"usage: {' '.join(words)} [flags]; {self.help_command or f'{self.prog} --help'} lists the flags"

    def _leaf(self, found: argparse.Namespace) -> ArgumentParser:
        """The parser of the verb that was chosen."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                chosen = action.choices.get(str(getattr(found, action.dest, None)))
                if isinstance(chosen, ArgumentParser):
                    return chosen._leaf(found)
        return self


def as_edgeloop_error(error: Exception) -> EdgeloopError:
    """One line for what nobody caught: the operating system's refusals, and defects of edgeloop."""
    if os.environ.get(DEBUG_VARIABLE, "").strip().lower() in ("1", "true", "yes"):
        traceback.print_exception(error)
    if isinstance(error, EdgeloopError):
        return error
    if isinstance(error, ModuleNotFoundError) and (extra := extra_of_module(error.name)) is not None:
        return MissingExtraError(f"this (it imports {error.name})", extra)
    if isinstance(error, (ConnectionError, TimeoutError)):
        return DeviceError(f"a connection failed: {error.strerror or error or type(error).__name__}")
    if isinstance(error, OSError) and error.strerror:
        return UsageError(f"{error.filename or 'the operating system'}: {error.strerror}")
    if isinstance(error, MemoryError):
        return DefectError("out of memory", hint="close other programs, or give less data")
    if isinstance(error, UnicodeEncodeError) and "\udc80" <= error.object[error.start] <= "\udcff":
        # Python's sign for a byte of the command line, the environment or a file name that is no UTF-8.
        shown = "".join(c if c.isprintable() else "?" for c in error.object[:80])
        return UsageError(f"{shown!r} has bytes that are no text", hint="names of devices, users and bundles are UTF-8")
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
