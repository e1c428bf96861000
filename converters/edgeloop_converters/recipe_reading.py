"""A recipe from TOML that somebody wrote or sent: every key and its type is checked, mistakes are one clear error.

Nothing in a recipe can make code run: `--trust-code` and `module:function` data come from the command line only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from edgeloop.contract import Contract
from edgeloop.errors import ConfigError
from edgeloop.tomlfile import parse_toml, read_toml
from edgeloop_converters.contracts import ContractFlags
from edgeloop_converters.goals import Goals
from edgeloop_converters.recipe import SCHEMA, Recipe, is_code_spec
from edgeloop_converters.recipe_steps import EFFORTS, PassStep, plan_passes
from edgeloop_converters.shapes import shapes_of

_KEYS: dict[str, type | tuple[type, ...]] = {
    "schema": int, "source": str, "target": str, "data": str, "eval": str, "name": str, "version": int, "effort": str,
    "seed": int, "ignore_labels": bool, "passes": list, "goals": dict, "contract": dict, "hints": dict,
    "eval_samples": int, "signature": str, "contract_file": str, "shape": list, "repair": bool,
    "onnx_engine": str, "optimize": str, "minutes": (int, float), "sha256": dict, "widths": list,
    "validation": bool,
}  # fmt: skip
_PLAIN = (
    "target", "data", "name", "version", "effort", "seed", "ignore_labels", "signature", "contract_file", "repair",
    "onnx_engine", "optimize", "minutes", "sha256", "validation",
)  # fmt: skip


def parse_recipe(text: str, what: str = "recipe") -> Recipe:
    """TOML text to a recipe. Raises ConfigError (or UsageError for a goal out of range)."""
    return recipe_from_dict(parse_toml(text, what))


def load_recipe(path: Path, given: Mapping[str, str | None] | None = None) -> Recipe:
    """A recipe file of at most 1 MiB; `given` as in `recipe_from_dict`, None for what was not. Raises ConfigError."""
    named = {key: value for key, value in (given or {}).items() if value is not None}
    return recipe_from_dict(read_toml(path, "recipe"), named)


def recipe_from_dict(data: Mapping[str, Any], given: Mapping[str, str] | None = None) -> Recipe:
    """The inverse of `Recipe.to_dict`. Unknown keys, code to run and wrong types are refused with ConfigError.

    given: `source`, `data` or `eval` from the command line; they replace what the file says, and may name code.
    """
    trusted = given or {}
    data = {**data, **trusted}
    unknown = sorted(set(data) - _KEYS.keys())
    if unknown:
        raise ConfigError(f"recipe: unknown key {unknown[0]!r}", hint=f"known: {', '.join(sorted(_KEYS))}")
    for key, value in data.items():
        kind = _KEYS[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            wanted = kind.__name__ if isinstance(kind, type) else "number"
            raise ConfigError(f"recipe: '{key}' must be a {wanted}, got {type(value).__name__}")
    if data.get("schema", SCHEMA) != SCHEMA:
        raise ConfigError(f"recipe: schema {data['schema']} is not known here", hint="update edgeloop")
    for key, flag in (("source", ""), ("data", "--data "), ("eval", "--eval ")):
        if key not in trusted and is_code_spec(data.get(key, "")):
            raise ConfigError(
                f"recipe: {key} = {data[key]!r} names code, which is never taken from a file",
                hint=f"pass it on the command line: {flag}{data[key]}",
            )
    values: dict[str, Any] = {k: data[k] for k in _PLAIN if k in data}
    values["evaluation"] = data.get("eval")
    values["evaluation_samples"] = data.get("eval_samples")
    if "passes" in data:
        values["passes"] = tuple(_step(raw) for raw in data["passes"])
    else:
        effort = str(data.get("effort", "default"))
        values["passes"] = plan_passes("int8", "aeq", effort if effort in EFFORTS else "default")
    if "widths" in data:
        values["widths"] = tuple(data["widths"])
    if "shape" in data:
        values["shapes"] = shapes_of(data["shape"])
    if "contract" in data:
        values["contract"] = Contract.from_dict(data["contract"])
    if "goals" in data:
        values["goals"] = Goals.from_dict(data["goals"])
    if "hints" in data:
        values["hints"] = _hints(data["hints"])
    return Recipe(source=data.get("source", ""), **values)


def _step(raw: Any) -> PassStep:
    if not isinstance(raw, Mapping) or not isinstance(raw.get("name"), str):
        raise ConfigError('recipe: every entry of passes is a table with a name, as `[[passes]] name = "calibrate"`')
    return PassStep(raw["name"], {k: v for k, v in raw.items() if k != "name"})


def _hints(raw: Mapping[str, Any]) -> ContractFlags:
    known = {f.name for f in fields(ContractFlags)}
    unknown = sorted(set(raw) - known)
    if unknown:
        raise ConfigError(f"recipe: unknown hint {unknown[0]!r}", hint=f"known: {', '.join(sorted(known))}")
    values: dict[str, Any] = {}
    for key, value in raw.items():
        kinds: Any = {"size": int, "mean": (int, float), "std": (int, float), "labels": str}.get(key)
        if kinds is None and not isinstance(value, str):
            raise ConfigError(f"recipe: hint '{key}' must be a text")
        if kinds is not None:
            if not isinstance(value, (list, tuple)) or any(
                isinstance(v, bool) or not isinstance(v, kinds) for v in value
            ):
                raise ConfigError(f"recipe: hint '{key}' must be a list of {'texts' if kinds is str else 'numbers'}")
            if key == "size" and len(value) != 2:
                raise ConfigError("recipe: hint 'size' must be [height, width]")
            value = tuple(value)
        values[key] = value
    return ContractFlags(**values)
