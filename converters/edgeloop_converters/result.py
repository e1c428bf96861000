"""What a conversion gives back: numbers, the verdict, and a bundle that is written when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.bundle import BundleDraft, Manifest, claim_version, load_or_create_signing_key, write_bundle
from edgeloop.bundle.files import (
    BUNDLE,
    check_can_write,
    check_can_write_into,
    check_may_replace,
    write_atomically,
)
from edgeloop.bundle.limits import model_file
from edgeloop.errors import GoalNotMetError, UsageError
from edgeloop_converters.check_data import Finding
from edgeloop_converters.evaluate import Quality
from edgeloop_converters.gate import Gate
from edgeloop_converters.next_steps import next_steps
from edgeloop_converters.portable import portable_recipe, portable_report
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.repair.records import Repair
from edgeloop_converters.report import finite, write_report

if TYPE_CHECKING:
    from edgeloop.bundle import Profile, SigningKey
    from edgeloop_converters.coral import CompiledVariant

_MAX_XZ_BYTES = 32 << 20


@dataclass(frozen=True)
class VariantResult:
    """One exported model and what was measured of it. input_shapes: of a shape bucket, see `bundle.Variant`. is_step:
    one to step down to, which is there to give up accuracy."""

    name: str
    model: bytes = field(repr=False)
    scheme: str
    quality: Quality
    profile: Profile | None
    gate: Gate
    repairs: tuple[Repair, ...] = ()
    input_shapes: tuple[tuple[int, ...], ...] = ()
    is_step: bool = False

    @property
    def file(self) -> str:
        """Its path inside the bundle."""
        return model_file(self.name)

    @property
    def judged_p95_ms(self) -> float | None:
        """None where the latency goal was not judged: it is only on the target itself."""
        unverified = any(goal.startswith("p95") for goal in self.gate.unverified)
        return None if self.profile is None or unverified else self.profile.p95_ms

    @cached_property
    def xz_bytes(self) -> int | None:
        """What the file takes in a bundle or a download, compressed by xz; None above 32 MiB, where it takes long."""
        import lzma

        return len(lzma.compress(self.model)) if len(self.model) <= _MAX_XZ_BYTES else None

    @cached_property
    def ops_in_float(self) -> tuple[int, int]:
        """(ops that compute in float although the scheme does not, all)."""
        from edgeloop_converters.schemes.verify import ops_in_float

        return ops_in_float(self.model, self.scheme)

    def to_dict(self) -> dict[str, Any]:
        """As `convert --json` has it."""
        return {
            "name": self.name,
            "file": self.file,
            "bytes": len(self.model),
            "xz_bytes": self.xz_bytes,
            "scheme": self.scheme,
            "float_ops": self.ops_in_float[0],
            "ops": self.ops_in_float[1],
            "metrics": self.quality.to_dict(),
            "profile": None if self.profile is None else dict(vars(self.profile)),
            "gate": self.gate.to_dict(),
            "repairs": [repair.to_dict() for repair in self.repairs],
            **({"input_shapes": [list(shape) for shape in self.input_shapes]} if self.input_shapes else {}),
        }


class PendingBundle:
    """A bundle that is ready to be written. `path`, `manifest` and `signed_by` are set by `save`."""

    def __init__(self, draft: BundleDraft, recipe: Recipe, gate: Gate, hashes: Mapping[str, str]) -> None:
        """hashes: see `portable.input_hashes`."""
        self._draft = draft
        self._recipe = recipe
        self._hashes = hashes
        self._gate = gate
        self.path: Path | None = None
        self.manifest: Manifest | None = None
        self.signed_by: str | None = None

    def __repr__(self) -> str:
        state = "not saved" if self.path is None else f"version {self.version}, saved as {str(self.path)!r}"
        return f"<PendingBundle {self._draft.name}: {state}>"

    def save(self, path: Path | str | None = None, *, sign: bool = True, keep_failed: bool = False) -> Path:
        """Sign and write the bundle, whole or not at all; the path. Default: NAME-VERSION.bundle in the current folder.

        A folder as `path` gets that name in it. Raises GoalNotMetError where the gate did not pass, unless
        `keep_failed`; UsageError or EdgeloopError where the file cannot be written.
        """
        if not self._gate.passed and not keep_failed:
            raise GoalNotMetError("; ".join(self._gate.reasons), hint="keep the bundle all the same: --keep-failed")
        key = load_or_create_signing_key() if sign else None
        return self.save_with(key, path)

    def save_with(self, key: SigningKey | None, path: Path | str | None = None) -> Path:
        """`save` with a key of one's own (None: unsigned), whatever the gate says."""
        check_output(path)
        version = self.version or claim_version(self._draft.name, self._recipe.version)
        signed_by = None if key is None else key.fingerprint
        report = {**self._draft.report, "version": version, "signed_by": signed_by}
        draft = replace(
            self._draft,
            version=version,
            report=finite(portable_report(report, self._recipe)),
            recipe_toml=portable_recipe(self._recipe, self._hashes).to_toml(),
        )
        target = resolve_output(path, self._draft.name, version)
        self.manifest = write_bundle(target, draft, key)
        self.path, self.signed_by = target, signed_by
        return target

    @property
    def version(self) -> int | None:
        """The version it was saved as."""
        return None if self.manifest is None else self.manifest.version


def check_output(path: Path | str | None) -> None:
    """Before any work: raises UsageError where `path` (None: the current folder) cannot become a bundle."""
    place = Path("." if path is None else path)
    names_folder = place.is_dir() or str(path).endswith(os.sep)  # Path drops the slash
    folder = place if names_folder else place.parent
    if not folder.is_dir():
        raise UsageError(f"output {path}: the folder {folder} does not exist", hint=f"mkdir -p {folder}")
    if place.is_dir():
        check_can_write_into(place, "output")
    else:
        check_can_write(place, "output")
        check_may_replace(place, BUNDLE)


def resolve_output(path: Path | str | None, name: str, version: int) -> Path:
    """The bundle's file for an output that may be a file, a folder, or not given."""
    default = f"{name}-{version}.bundle"
    if path is None:
        return Path(default)
    return Path(path) / default if Path(path).is_dir() else Path(path)


@dataclass(frozen=True)
class ConvertResult:
    """A conversion that ran to its end, whether or not the goals were met.

    recipe: as it ran, with the contract that was settled. variants[0] is what the target runs, unless `compiled` has it
    for an accelerator. stages: seconds by stage. findings: on the data, the gravest first; those that are no mere notes
    are among the warnings as text. cache: hits and misses of decoded pictures; None without a cache.
    """

    recipe: Recipe
    variants: tuple[VariantResult, ...]
    gate: Gate
    bundle: PendingBundle
    report: Mapping[str, Any] = field(repr=False)
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    stages: Mapping[str, float]
    seconds: float
    findings: tuple[Finding, ...] = ()
    cache: Mapping[str, int] | None = None
    compiled: tuple[CompiledVariant, ...] = ()

    @property
    def name(self) -> str:
        return self.recipe.bundle_name

    @property
    def version(self) -> int | None:
        """The version of the saved bundle; before that the one asked for, if any."""
        return self.bundle.version or self.recipe.version

    @property
    def next_steps(self) -> tuple[str, ...]:
        """What to try for the first variant that missed a goal, the likeliest first; () where none is known."""
        steps = (
            next_steps(
                self.recipe, v.quality.metrics, model_bytes=len(v.model), p95_ms=v.judged_p95_ms, guesses=v.gate.guesses
            )
            for v in self.variants
            if not v.gate.passed
        )
        return next((found for found in steps if found), ())

    def to_dict(self) -> dict[str, Any]:
        """As `convert --json` prints it."""
        plain = [v.to_dict() for v in self.variants]
        return {
            "bundle": None if self.bundle.path is None else str(self.bundle.path),
            "name": self.name,
            "version": self.version,
            "target": self.recipe.target,
            "signed_by": self.bundle.signed_by,
            "variants": [finite(one) for one in (*(c.to_dict() for c in self.compiled), *plain)],
            "gate": self.gate.to_dict(),
            "next_steps": list(self.next_steps),
            "repairs": [repair.to_dict() for repair in self.variants[0].repairs],
            "search": finite(self.report["search"]),
            "ablation": finite(self.report["ablation"]),
            "seconds": self.seconds,
            "stages": dict(self.stages),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "findings": [f.to_dict() for f in self.findings],
            "dynamic": self.report.get("dynamic"),
            "cache": self.cache,
        }

    def full_report(self) -> dict[str, Any]:
        """The report with what is known after saving: version, bundle, who signed it."""
        saved = self.bundle
        return {
            **self.report,
            "version": self.version,
            "bundle": None if saved.path is None else saved.path.name,
            "signed_by": saved.signed_by,
            "next_steps": list(self.next_steps),
        }

    def save_recipe(self, path: Path | str) -> None:
        """The passes that `variants[0]` was made by, as a recipe to be run again: `edgeloop convert --recipe FILE`.

        Of a search, what it came to. Raises UsageError where it cannot be written.
        """
        searched = self.report["search"] or {}
        check_can_write(Path(path), "recipe")
        text: str = searched.get("recipe") or self.recipe.to_toml()
        write_atomically(Path(path), text.encode())

    def write_report(self, folder: Path | str | None = None, *, beside: Path | str | None = None) -> tuple[Path, Path]:
        """Write report.json and report.html into `folder`, or beside the bundle as NAME.report.json and .html.

        beside: the bundle's path (or its folder) when it was not written. Returns both paths. Raises UsageError where
        they cannot be written.
        """
        if folder is not None:
            json_path, html_path = Path(folder) / "report.json", Path(folder) / "report.html"
        else:
            path = self.bundle.path or Path(beside or ".")
            path = path / f"{self.name}.bundle" if path.is_dir() else path
            stem = path.name.removesuffix(".bundle")
            json_path, html_path = path.with_name(f"{stem}.report.json"), path.with_name(f"{stem}.report.html")
        write_report(json_path, html_path, self.full_report())
        return json_path, html_path
