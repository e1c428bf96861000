"""An agent's config as text: a new one, and changing keys of one that somebody wrote, where what is not named stays as
it is, comments among it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from edgeloop.errors import ConfigError, UsageError
from edgeloop.tomlfile import parse_toml

_TABLE = re.compile(r"^\s*\[", re.MULTILINE)
_BY_HAND = "change the file on the device by hand"


def changed_config(text: str | None, link: str, given: Mapping[str, Any], needed: Mapping[str, Any]) -> str:
    """agent.toml that lets `link` run. text: what the device has, None for no file; given: keys that the user wants
    changed; needed: keys that are added only where they are missing.

    Raises UsageError where the file lets another bundle run, or names no source and none is given; ConfigError where it
    is no TOML.
    """
    if text is None:
        _require_source(given)
        return config_text({"bundle": link, **given, **needed})
    old = parse_toml(text, "agent config on the device")
    models = old.get("model")
    if isinstance(models, dict):
        if link not in [table.get("bundle") for table in models.values() if isinstance(table, dict)]:
            raise UsageError(
                "the device's config has several models, and none of them runs this bundle",
                hint=f'bundle = "{link}" in the one that shall',
            )
        if given:
            raise UsageError("which of the device's models gets these settings?", hint=_BY_HAND)
        return text
    runs = old.get("bundle")
    if runs not in (None, link):
        raise UsageError(
            f"the device's config lets another bundle run: {runs}",
            hint=f'bundle = "{link}" in its agent.toml, then deploy again',
        )
    wanted = {"bundle": link, **{k: v for k, v in needed.items() if k not in old}, **given}
    _require_source({**old, **wanted})
    changes = {key: value for key, value in wanted.items() if old.get(key) != value}
    fresh = _with(text, changes)
    try:
        is_as_meant = parse_toml(fresh, "") == {**old, **changes}
    except ConfigError:  # a value of several lines
        is_as_meant = False
    if not is_as_meant:
        raise UsageError(f"{', '.join(changes)} cannot be changed in the device's config safely", hint=_BY_HAND)
    return fresh


def _require_source(settings: Mapping[str, Any]) -> None:
    if not settings.get("source"):
        raise UsageError("a bundle needs a source of frames, and the device names none", hint="--source camera:0")


def _with(text: str, changes: Mapping[str, Any]) -> str:
    """Lines of the top level replaced, new ones before the first table."""
    table = _TABLE.search(text)
    top, rest = (text, "") if table is None else (text[: table.start()], text[table.start() :])
    for key, value in changes.items():
        line = f"{key} = {toml_value(value)}"
        found = re.search(rf"^[ \t]*{re.escape(key)}[ \t]*=.*$", top, re.MULTILINE)
        if found:
            top = top[: found.start()] + line + top[found.end() :]
        else:
            top += ("" if not top or top.endswith("\n") else "\n") + line + "\n"
    return top + rest


def config_text(settings: Mapping[str, Any]) -> str:
    """agent.toml. Values are texts, numbers, truths and lists of texts."""
    lines = ["# Settings of the edgeloop agent, all of them in docs/agent.md."]
    lines += [f"{name} = {toml_value(value)}" for name, value in settings.items()]
    if "source" not in settings:
        lines.append('# source = "camera:0"')
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """A text, number, truth or list of texts as TOML spells it."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False).replace(
        "\x7f", "\\u007f"
    )  # a JSON string is a TOML one but for DEL
