"""Where it comes from, and what to type to do it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from edgeloop_converters.report.html import Markup, definitions, folded, section, soft, tag
from edgeloop_converters.report.words import Values, flat

_COLUMNS = ("versions",)


def provenance(report: Values) -> Markup | None:
    known = report.get("provenance") or {}
    stages = report.get("stages") or {}
    pairs: list[tuple[object, object]] = [
        (key.replace("_", " "), flat(value))
        for key, value in known.items()
        if key not in _COLUMNS and value not in (None, "", {}, [])
    ]
    pairs.append(("signed by", report.get("signed_by") or ("nobody" if report.get("bundle") else None)))
    versions = known.get("versions") or {}
    if stages:
        pairs.append(("seconds", ", ".join(f"{k} {v:.1f}" for k, v in stages.items())))
    rows = [*versions.items()] if isinstance(versions, dict) else []
    parts = [
        definitions(pairs),
        folded("Versions", definitions(rows), is_open=True) if rows else None,
    ]
    return section("provenance", "Where this comes from", parts) if any(v for _, v in pairs) or rows else None


def again(report: Values) -> Markup | None:
    """The exact commands, quoted for a POSIX shell."""
    listed = list(commands(report))
    if not listed:
        return None
    steps = [tag("li", tag("p", why), tag("pre", command, tabindex=0)) for why, command in listed]
    return section(
        "again",
        "Do it again",
        tag("ol", steps, class_="steps"),
        soft("Paths are as they were typed: run them in the same folder. The seed is part of the recipe."),
    )


def commands(report: Values) -> Iterable[tuple[str, str]]:
    """(why, command). What is not known is left out."""
    known = report.get("provenance") or {}
    versions = known.get("versions")
    pins = [f"{name}=={version}" for name, version in versions.items()] if isinstance(versions, dict) else []
    if pins:
        yield "The same versions of what it stands on", shlex.join(["pip", "install", *pins])
    if report.get("command"):
        yield "The same command", str(report["command"])
    bundle = report.get("bundle")
    if not bundle:
        return
    folder = str(bundle).removesuffix(".bundle")
    words = shlex.quote(str(bundle))
    data = report.get("data") or {}
    calibrated, evaluated = ((data.get(key) or {}).get("source") for key in ("calibration", "evaluation"))
    recipe = ["edgeloop", "convert", *_model_as_typed(report), "--recipe", f"{folder}/recipe.toml"]
    recipe += ["--data", str(calibrated)] if calibrated else []
    recipe += ["--eval", str(evaluated)] if calibrated and evaluated and evaluated != calibrated else []
    yield (
        "Or from the recipe in the bundle, with the contract as it was settled",
        f"python3 -m zipfile -e {words} {shlex.quote(folder)}\n{shlex.join(recipe)}",
    )
    # Data that were split hold the calibration samples, too: other numbers would come out.
    if evaluated and evaluated != calibrated:
        yield "Evaluate the bundle", f"edgeloop evaluate {words} --data {shlex.quote(str(evaluated))}"
    where = f" --target {shlex.quote(str(report['target']))}" if report.get("target") else ""
    yield (
        "Signature, placement of the ops, latency here",
        (f"edgeloop bundle verify {words}\nedgeloop analyze {words}{where}\nedgeloop bench {words}"),
    )


def _model_as_typed(report: Values) -> list[str]:
    """The recipe in a bundle knows the file's name, not its folder."""
    try:
        typed = shlex.split(str(report.get("command") or ""))
    except ValueError:
        return []
    is_named = typed[:2] == ["edgeloop", "convert"] and len(typed) > 2 and not typed[2].startswith("-")
    return typed[2:3] if is_named else []
