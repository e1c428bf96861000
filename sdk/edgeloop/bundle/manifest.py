"""manifest.json as values: what a bundle is and what every other file in it must be. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeloop.bundle.checked import canonical_json
from edgeloop.bundle.limits import FORMAT, SCHEMA
from edgeloop.contract import Contract
from edgeloop.errors import ConfigError

GOLDEN_DTYPES: Mapping[str, tuple[str, int]] = {
    # dtype: (the npy descr, bytes of an element)
    "uint8": ("|u1", 1),
    "int8": ("|i1", 1),
    "uint16": ("<u2", 2),
    "int16": ("<i2", 2),
    "int32": ("<i4", 4),
    "int64": ("<i8", 8),
    "float32": ("<f4", 4),
}
HOST_DELEGATES = frozenset({"cpu", "xnnpack", "gpu"})
"""They run models as a converter writes them; others run what was compiled for them."""


@dataclass(frozen=True)
class Metrics:
    """Quality of a variant on `n` evaluation samples: fractions 0..1. JSON key of `float_` is "float"."""

    metric: str
    float_: float | None = None
    this: float | None = None
    agreement: float | None = None
    n: int = 0


@dataclass(frozen=True)
class Profile:
    """Latency of a variant, measured on `device` over `n` runs."""

    device: str
    delegate: str
    threads: int
    n: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    throttled: bool = False


@dataclass(frozen=True)
class Variant:
    """One model of the bundle. `delegates`: wish list in fallback order.

    `input_shapes`: of a shape bucket, the shape of one sample for each of the contract's inputs; () where the contract
    says it all.
    """

    name: str
    file: str
    sha256: str
    bytes: int
    scheme: str
    delegates: tuple[str, ...] = ()
    metrics: Metrics | None = None
    profile: Profile | None = None
    input_shapes: tuple[tuple[int, ...], ...] = ()

    @property
    def needs_accelerator(self) -> bool:
        """Compiled for one: nothing else runs it."""
        return bool(self.delegates) and HOST_DELEGATES.isdisjoint(self.delegates)


@dataclass(frozen=True)
class FileEntry:
    """What a member must be: its SHA-256 (hex) and its size unpacked."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class GoldenArray:
    """One array of golden.npz: an input (by the contract's name), or output `output` of `variant` as `family`
    computes it.
    """

    array: str
    dtype: str
    shape: tuple[int, ...]
    input: str | None = None
    variant: str | None = None
    family: str | None = None
    output: int | None = None

    @property
    def data_bytes(self) -> int:
        return math.prod(self.shape) * GOLDEN_DTYPES[self.dtype][1]


@dataclass(frozen=True)
class GoldenIndex:
    """The arrays of golden.npz, and the tolerance per runtime family in steps of the output."""

    arrays: tuple[GoldenArray, ...]
    tolerance_steps: Mapping[str, float]


@dataclass(frozen=True)
class Manifest:
    """All of manifest.json. `runtime`: lowest version per runtime family. `files`: members that are no models."""

    name: str
    version: int
    target: str
    contract: Contract
    variants: tuple[Variant, ...]
    golden: GoldenIndex | None = None
    runtime: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    float_metrics: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    schema: int = SCHEMA

    def variant(self, name: str | None = None) -> Variant:
        """The variant of that name; without one the first, which the target runs. Raises ConfigError."""
        if name is None:
            return self.variants[0]
        for variant in self.variants:
            if variant.name == name:
                return variant
        known = ", ".join(v.name for v in self.variants)
        raise ConfigError(f"bundle {self.name} has no variant {name!r}", hint=f"it has: {known}")

    def variant_for(self, delegate: str, name: str | None = None) -> Variant:
        """As `variant`; without a name, and where the first needs an accelerator that `delegate` is not, the first
        that needs none.
        """
        fallback = self._without_accelerator(name) if delegate in HOST_DELEGATES else None
        return fallback or self.variant(name)

    def fallback_order(self, name: str | None = None) -> tuple[str, ...]:
        """The delegates of the variant of that name; without one those of the first, and of the variant that runs
        where the first one's accelerator is missing.
        """
        fallback = self._without_accelerator(name)
        return tuple(dict.fromkeys(self.variant(name).delegates + (fallback.delegates if fallback is not None else ())))

    def _without_accelerator(self, name: str | None) -> Variant | None:
        if name is not None or not self.variants[0].needs_accelerator:
            return None
        return next((v for v in self.variants if not v.needs_accelerator), None)

    def buckets(self) -> tuple[Variant, ...]:
        """The shape buckets that the target's variant is one of: one model in several shapes, in the bundle's order;
        () where it is none.
        """
        first = self.variants[0]
        alike = (first.scheme, first.delegates)
        every = tuple(v for v in self.variants if v.input_shapes and (v.scheme, v.delegates) == alike)
        return every if first.input_shapes and len(every) > 1 else ()

    def members(self) -> dict[str, FileEntry]:
        """Every file of the bundle but manifest.json and signatures.json."""
        models = {v.file: FileEntry(v.sha256, v.bytes) for v in self.variants}
        return {**models, **self.files}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `manifest_from_dict` takes them back."""
        return {
            "format": FORMAT,
            "schema": self.schema,
            "name": self.name,
            "version": self.version,
            "target": self.target,
            "contract": self.contract.to_dict(),
            "variants": [_variant_to_dict(v) for v in self.variants],
            "golden": None if self.golden is None else _golden_to_dict(self.golden),
            "runtime": dict(self.runtime),
            "provenance": dict(self.provenance),
            "float_metrics": dict(self.float_metrics),
            "files": {name: {"sha256": f.sha256, "bytes": f.bytes} for name, f in self.files.items()},
        }


def encode_manifest(manifest: Manifest) -> bytes:
    """The canonical bytes: sorted keys, no spaces, UTF-8. Raises ConfigError for values that JSON does not have."""
    return canonical_json(manifest.to_dict())


def _variant_to_dict(variant: Variant) -> dict[str, Any]:
    metrics, profile = variant.metrics, variant.profile
    shapes = {"input_shapes": [list(shape) for shape in variant.input_shapes]} if variant.input_shapes else {}
    return {
        "name": variant.name,
        "file": variant.file,
        "sha256": variant.sha256,
        "bytes": variant.bytes,
        "scheme": variant.scheme,
        "delegates": list(variant.delegates),
        "metrics": None if metrics is None else metrics_to_dict(metrics),
        "profile": None if profile is None else dict(vars(profile)),
        **shapes,
    }


def metrics_to_dict(metrics: Metrics) -> dict[str, Any]:
    """The JSON form, where the field `float_` is called "float"."""
    return {key.rstrip("_"): value for key, value in vars(metrics).items()}


def _golden_to_dict(golden: GoldenIndex) -> dict[str, Any]:
    arrays = []
    for array in golden.arrays:
        plain = {key: value for key, value in vars(array).items() if value is not None}
        arrays.append({**plain, "shape": list(array.shape)})
    return {"arrays": arrays, "tolerance_steps": dict(golden.tolerance_steps)}
