"""manifest.json as values: what a bundle is and what every other file in it must be. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeloop.bundle.checked import (
    as_integer,
    as_number,
    as_table,
    as_text,
    canonical_json,
    integer_at,
    list_at,
    name_at,
    number_at,
    parse_canonical_json,
    printable,
    table_at,
    text_at,
)
from edgeloop.bundle.limits import (
    FORMAT,
    GOLDEN,
    MAX_DIMENSIONS,
    MAX_GOLDEN_ARRAYS,
    MAX_GOLDEN_BYTES,
    MAX_INPUTS,
    MAX_MODEL_BYTES,
    MAX_TOTAL_BYTES,
    MAX_VARIANTS,
    MAX_VERSION,
    MODEL_FILE_PATTERN,
    SCHEMA,
    SHA256_PATTERN,
    SIDE_FILES,
    model_file,
)
from edgeloop.contract import FREE, Contract, InputSpec
from edgeloop.errors import ConfigError, RefusedError

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
        """Plain values for JSON; `from_dict` takes them back."""
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

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Manifest:
        """The inverse of `to_dict`, everything checked. Unknown keys are passed over. Raises RefusedError."""
        if data.get("format") != FORMAT:
            raise RefusedError("manifest.json is not that of an edgeloop bundle")
        schema = integer_at(data, "schema", 1, MAX_VERSION)
        if schema > SCHEMA:
            raise RefusedError(
                f"manifest.json has schema {schema}; this edgeloop reads up to {SCHEMA}",
                hint="install a newer edgeloop",
            )
        contract = data.get("contract")
        if not isinstance(contract, Mapping):
            raise RefusedError("manifest.json: 'contract' must be a table")
        try:
            checked_contract = Contract.from_dict(contract)
        except (ConfigError, TypeError, ValueError, ArithmeticError) as error:
            text = error.message if isinstance(error, ConfigError) else str(error)
            raise RefusedError(f"manifest.json: {printable(text)}") from error
        golden = data.get("golden")
        manifest = Manifest(
            name=name_at(data, "name"),
            version=integer_at(data, "version", 1, MAX_VERSION),
            target=text_at(data, "target", 200),
            contract=checked_contract,
            variants=tuple(_variant_from(raw) for raw in list_at(data, "variants", MAX_VARIANTS)),
            golden=None if golden is None else _golden_from(golden),
            runtime={k: as_text(v, f"runtime {k[:40]!r}", 100) for k, v in table_at(data, "runtime").items()},
            provenance=table_at(data, "provenance"),
            float_metrics={
                k: as_number(v, f"float_metrics {k[:40]!r}") for k, v in table_at(data, "float_metrics").items()
            },
            files={k: _file_from(k, v) for k, v in table_at(data, "files").items()},
            schema=schema,
        )
        _check_whole(manifest)
        return manifest


def encode_manifest(manifest: Manifest) -> bytes:
    """The canonical bytes: sorted keys, no spaces, UTF-8. Raises ConfigError for values that JSON does not have."""
    return canonical_json(manifest.to_dict())


def decode_manifest(raw: bytes) -> Manifest:
    """Read manifest.json. Raises RefusedError, also where the bytes are not the canonical ones of their content."""
    return Manifest.from_dict(parse_canonical_json(raw, "manifest.json"))


def _check_whole(manifest: Manifest) -> None:
    inputs = manifest.contract.inputs
    for variant in manifest.variants:
        shapes = variant.input_shapes
        if shapes and (len(shapes) != len(inputs) or not all(map(_is_one_of, inputs, shapes))):
            raise RefusedError(f"manifest.json: variant {variant.name}: input_shapes are not the contract's")
    names = [v.name for v in manifest.variants]
    if not names:
        raise RefusedError("manifest.json: no variant")
    if len(set(names)) != len(names):
        raise RefusedError("manifest.json: two variants have one name")
    if (manifest.golden is not None) != (GOLDEN in manifest.files):
        raise RefusedError(f"manifest.json: {GOLDEN} and its index do not go together")
    if sum(f.bytes for f in manifest.members().values()) > MAX_TOTAL_BYTES:
        raise RefusedError(f"manifest.json: more than {MAX_TOTAL_BYTES} bytes unpacked")
    for array in manifest.golden.arrays if manifest.golden is not None else ():
        if array.variant is not None and array.variant not in names:
            raise RefusedError(f"manifest.json: golden array {array.array} is of an unknown variant")


def _is_one_of(spec: InputSpec, shape: Sequence[int]) -> bool:
    """Whether a sample of `shape` is one that the contract describes."""
    wanted = spec.sample_shape
    return wanted is None or (
        len(wanted) == len(shape) and all(a in (b, FREE) for a, b in zip(wanted, shape, strict=True))
    )


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


def _variant_from(raw: Any) -> Variant:
    data = as_table(raw, "a variant")
    name = name_at(data, "name")
    file = text_at(data, "file", 200)
    if not MODEL_FILE_PATTERN.fullmatch(file) or file != model_file(name):
        raise RefusedError(f"manifest.json: variant {name}: its file must be {model_file(name)}")
    delegates = tuple(as_text(d, f"variant {name}: a delegate", 500) for d in list_at(data, "delegates", 16))
    entry = _entry(data, file, MAX_MODEL_BYTES)
    metrics, profile = data.get("metrics"), data.get("profile")
    return Variant(
        name=name, file=file, sha256=entry.sha256, bytes=entry.bytes, scheme=text_at(data, "scheme", 100),
        delegates=delegates,
        metrics=None if metrics is None else _metrics_from(as_table(metrics, f"variant {name}: metrics")),
        profile=None if profile is None else _profile_from(as_table(profile, f"variant {name}: profile")),
        input_shapes=_shapes_from(data, name),
    )  # fmt: skip


def _shapes_from(data: Mapping[str, Any], name: str) -> tuple[tuple[int, ...], ...]:
    given = list_at(data, "input_shapes", MAX_INPUTS) if "input_shapes" in data else []
    return tuple(_shape_from(raw, name) for raw in given)


def _shape_from(raw: Any, name: str) -> tuple[int, ...]:
    if not isinstance(raw, list) or len(raw) > MAX_DIMENSIONS:
        raise RefusedError(f"manifest.json: variant {name}: an input shape must be a list of sizes")
    return tuple(as_integer(n, f"variant {name}: an input's size", 1, MAX_MODEL_BYTES) for n in raw)


def _metrics_from(data: Mapping[str, Any]) -> Metrics:
    def optional(key: str) -> float | None:
        return None if data.get(key) is None else number_at(data, key)

    return Metrics(
        text_at(data, "metric", 100), optional("float"), optional("this"), optional("agreement"),
        integer_at(data, "n", 0, MAX_VERSION),
    )  # fmt: skip


def _profile_from(data: Mapping[str, Any]) -> Profile:
    throttled = data.get("throttled", False)
    if not isinstance(throttled, bool):
        raise RefusedError("manifest.json: 'throttled' must be true or false")
    return Profile(
        device=text_at(data, "device", 200),
        delegate=text_at(data, "delegate", 500),
        threads=integer_at(data, "threads", 0, 4096),
        n=integer_at(data, "n", 0, MAX_VERSION),
        p50_ms=number_at(data, "p50_ms"),
        p95_ms=number_at(data, "p95_ms"),
        p99_ms=number_at(data, "p99_ms"),
        throttled=throttled,
    )


def _golden_to_dict(golden: GoldenIndex) -> dict[str, Any]:
    arrays = []
    for array in golden.arrays:
        plain = {key: value for key, value in vars(array).items() if value is not None}
        arrays.append({**plain, "shape": list(array.shape)})
    return {"arrays": arrays, "tolerance_steps": dict(golden.tolerance_steps)}


def _golden_from(raw: Any) -> GoldenIndex:
    data = as_table(raw, "'golden'")
    arrays = tuple(_golden_array_from(item) for item in list_at(data, "arrays", MAX_GOLDEN_ARRAYS))
    names = {a.array for a in arrays}
    if len(names) != len(arrays):
        raise RefusedError("manifest.json: two golden arrays have one name")
    if sum(a.data_bytes for a in arrays) > MAX_GOLDEN_BYTES:
        raise RefusedError(f"manifest.json: golden arrays of more than {MAX_GOLDEN_BYTES} bytes")
    if not any(a.input is not None for a in arrays):
        raise RefusedError("manifest.json: golden arrays without an input")
    if len({a.shape[:1] for a in arrays}) != 1:
        raise RefusedError("manifest.json: golden arrays of different sample counts")
    steps = {k: as_number(v, f"tolerance {k[:40]!r}") for k, v in table_at(data, "tolerance_steps").items()}
    if any(s < 0 for s in steps.values()):
        raise RefusedError("manifest.json: a golden tolerance is negative")
    return GoldenIndex(arrays, steps)


def _golden_array_from(raw: Any) -> GoldenArray:
    data = as_table(raw, "a golden array")
    name = name_at(data, "array")
    dtype = text_at(data, "dtype", 20)
    if dtype not in GOLDEN_DTYPES:
        raise RefusedError(f"manifest.json: golden array {name}: dtype {dtype!r} is not allowed")
    shape = tuple(as_integer(n, f"golden array {name}: shape", 0, MAX_GOLDEN_BYTES) for n in
                  list_at(data, "shape", MAX_DIMENSIONS))  # fmt: skip
    if not shape or shape[0] < 1:
        raise RefusedError(f"manifest.json: golden array {name}: needs a sample axis")
    if "input" in data:
        return GoldenArray(name, dtype, shape, input=text_at(data, "input", 1000))
    if dtype != "float32":
        raise RefusedError(f"manifest.json: golden array {name}: outputs are float32")
    return GoldenArray(
        name, dtype, shape,
        variant=name_at(data, "variant"), family=name_at(data, "family"), output=integer_at(data, "output", 0, 4096),
    )  # fmt: skip


def _file_from(name: str, raw: Any) -> FileEntry:
    if name not in SIDE_FILES:
        raise RefusedError(f"manifest.json: lists {name[:80]!r}, which is no part of a bundle")
    return _entry(as_table(raw, name), name, SIDE_FILES[name])


def _entry(data: Mapping[str, Any], what: str, max_bytes: int) -> FileEntry:
    sha256 = text_at(data, "sha256", 64)
    if not SHA256_PATTERN.fullmatch(sha256):
        raise RefusedError(f"manifest.json: {what}: sha256 must be 64 hex digits")
    return FileEntry(sha256, integer_at(data, "bytes", 0, max_bytes))
