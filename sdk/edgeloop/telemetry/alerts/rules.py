"""Alert rules and webhooks, and reading them from a TOML file (docs/page.md has an example)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgeloop.errors import ConfigError
from edgeloop.tomlfile import nearest_key, read_toml

NUMBERS = ("p50_ms", "p95_ms", "p99_ms", "profile_ratio", "temperature_c", "errors_per_min", "inferences_per_s")
"""What a rule can hold against a threshold."""
OF_LATENCY = frozenset(("p50_ms", "p95_ms", "p99_ms", "profile_ratio"))
"""Those of NUMBERS that percentiles are needed for."""
STATES = ("fallback", "throttled", "silent", "device_alert")
"""What either is so or not. device_alert: the device itself says that something is wrong."""
SEVERITIES = ("warning", "critical")
MAX_RULES = 100
MAX_WEBHOOKS = 10


@dataclass(frozen=True)
class Rule:
    """Fires when `when` has been above (or below) its threshold, or so, for `for_s`; is over when that has been cleared
    for as long. clear: the threshold on the way back (default: a tenth inside). intervals: of `silent`, in report
    periods. bundle, device: only those (device may hold `*`)."""

    name: str
    when: str
    above: float | None = None
    below: float | None = None
    clear: float | None = None
    for_s: float = 60.0
    intervals: float = 3.0
    severity: str = "warning"
    bundle: str = ""
    device: str = ""

    @property
    def cleared_at(self) -> float:
        """Inside of which a firing rule counts as cleared."""
        if self.clear is not None:
            return self.clear
        if self.above is not None:
            return self.above - 0.1 * abs(self.above)
        return (self.below or 0.0) + 0.1 * abs(self.below or 0.0)


@dataclass(frozen=True)
class Webhook:
    """Where to POST. secret: signs every body; empty: unsigned. ca: a PEM file to trust instead of the system's."""

    url: str
    secret: bytes = field(default=b"", repr=False)
    timeout_s: float = 5.0
    ca: str = ""


@dataclass(frozen=True)
class AlertSettings:
    """Nothing is judged without rules."""

    rules: tuple[Rule, ...] = ()
    webhooks: tuple[Webhook, ...] = ()


NO_ALERTS = AlertSettings()


def read_alerts(path: Path, environment: Mapping[str, str] = os.environ) -> AlertSettings:
    """ConfigError for a file that cannot be read, an unknown key or value, a secret that is not there."""
    what = f"alerts {path}"
    data = read_toml(path, "alerts")
    _known(data, ("rule", "webhook"), what)
    rules = tuple(_rule(each, f"{what}: rule {n}") for n, each in enumerate(_tables(data, "rule", what), 1))
    hooks = [(each, f"{what}: webhook {n}") for n, each in enumerate(_tables(data, "webhook", what), 1)]
    if not rules:
        raise ConfigError(f"{what}: no [[rule]]", hint='[[rule]] name = "hot", when = "temperature_c", above = 80')
    if len(rules) > MAX_RULES or len(hooks) > MAX_WEBHOOKS:
        raise ConfigError(f"{what}: more than {MAX_RULES} rules or {MAX_WEBHOOKS} webhooks")
    names = [rule.name for rule in rules]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"{what}: two rules are called {doubled!r}", hint="give each a name of its own")
    return AlertSettings(rules, tuple(_webhook(each, where, path.parent, environment) for each, where in hooks))


def _rule(data: Mapping[str, Any], where: str) -> Rule:
    _known(data, tuple(each.name for each in fields(Rule)), where)
    values = dict(data)
    for name in ("name", "when"):
        if not isinstance(values.get(name), str) or not values[name] or len(values[name]) > 80:
            raise ConfigError(f"{where}: needs {name}, a short text")
    for name in ("severity", "bundle", "device"):
        if not isinstance(values.get(name, ""), str):
            raise ConfigError(f"{where}: {name} is a text")
    for name in ("above", "below", "clear", "for_s", "intervals"):
        if name in values:
            values[name] = _number(values[name], f"{where}: {name}")
    rule = Rule(**values)
    if rule.when not in (*NUMBERS, *STATES):
        raise ConfigError(f"{where}: cannot watch {rule.when!r}", hint=nearest_key(rule.when, (*NUMBERS, *STATES)))
    if rule.when in NUMBERS and (rule.above is None) == (rule.below is None):
        raise ConfigError(f"{where}: {rule.when} needs `above` or `below`", hint="one of them")
    if rule.when in STATES and (rule.above, rule.below, rule.clear) != (None, None, None):
        raise ConfigError(f"{where}: {rule.when} has no threshold", hint="for_s says how long it must last")
    if rule.above is not None and rule.cleared_at > rule.above:
        raise ConfigError(f"{where}: clear is above the threshold")
    if rule.below is not None and rule.cleared_at < rule.below:
        raise ConfigError(f"{where}: clear is below the threshold")
    if rule.severity not in SEVERITIES:
        raise ConfigError(f"{where}: severity {rule.severity!r}", hint=nearest_key(rule.severity, SEVERITIES))
    if not 0 <= rule.for_s <= 7 * 86400 or not 1 <= rule.intervals <= 10_000:
        raise ConfigError(f"{where}: for_s is 0 to 604800 s, intervals 1 to 10000")
    return rule


def _webhook(data: Mapping[str, Any], where: str, folder: Path, environment: Mapping[str, str]) -> Webhook:
    _known(data, ("url", "secret_env", "secret_file", "timeout_s", "ca"), where)
    for name in ("url", "secret_env", "secret_file", "ca"):
        if not isinstance(data.get(name, ""), str):
            raise ConfigError(f"{where}: {name} is a text")
    url, parts = data.get("url", ""), urlsplit(data.get("url", ""))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{where}: url is http:// or https:// with a host, not {url!r}")
    if parts.username or parts.password:
        raise ConfigError(f"{where}: no password in the url", hint="receivers check the signature: secret_env")
    timeout_s = _number(data.get("timeout_s", 5.0), f"{where}: timeout_s")
    if not 0 < timeout_s <= 60:
        raise ConfigError(f"{where}: timeout_s is at most 60")
    ca = str(folder / data["ca"]) if data.get("ca") else ""
    return Webhook(url, _secret(data, where, folder, environment), timeout_s, ca)


def _secret(data: Mapping[str, Any], where: str, folder: Path, environment: Mapping[str, str]) -> bytes:
    if data.get("secret_env") and data.get("secret_file"):
        raise ConfigError(f"{where}: secret_env or secret_file, not both")
    if name := data.get("secret_env"):
        if not environment.get(name):
            raise ConfigError(f"{where}: the environment has no {name}", hint=f"export {name}=...")
        return environment[name].encode()
    if name := data.get("secret_file"):
        try:
            secret: bytes = (folder / name).read_bytes().strip()
        except OSError as error:
            raise ConfigError(f"{where}: {folder / name}: {error.strerror}") from error
        if not secret:
            raise ConfigError(f"{where}: {folder / name} is empty")
        return secret
    return b""


def _known(data: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    for key in data:
        if key not in names:
            raise ConfigError(f"{where}: unknown key {key!r}", hint=nearest_key(key, names))


def _tables(data: Mapping[str, Any], name: str, where: str) -> list[dict[str, Any]]:
    found = data.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ConfigError(f"{where}: write [[{name}]]")
    return found


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or abs(value) == float("inf"):
        raise ConfigError(f"{where} is a number")
    return float(value)
