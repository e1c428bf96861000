"""What to type to do the same again."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable

_NOT_FLAGS = ("verb", "json")
_SHORT = {"output": "-o"}


def command_line(verb: str, args: argparse.Namespace, positional: Iterable[str] = ("model",)) -> str:
    """`edgeloop VERB ...` with every argument that has a value, quoted for a POSIX shell.

    A list is its flag once for every entry; what starts with a dash is written `--flag=value`.
    """
    values = vars(args)
    words = ["edgeloop", verb]
    names = list(positional)
    for name in names:
        value = values.get(name)
        words += [str(v) for v in (value if isinstance(value, list) else [value]) if v is not None]
    for key, value in values.items():
        if key in (*_NOT_FLAGS, *names) or value is None or value is False:
            continue
        flag = _SHORT.get(key, "--" + key.replace("_", "-"))
        if value is True:
            words.append(flag)
            continue
        for one in value if isinstance(value, list) else [value]:
            text = str(one)
            words += [f"{flag}={text}"] if text.startswith("-") and flag.startswith("--") else [flag, text]
    return shlex.join(words)
