"""manifest.json read from bytes that nobody vouches for: everything is checked before it becomes a value. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeloop.bundle.checked import (
    as_integer,
    as_number,
    as_table,
    as_text,
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
from edgeloop.bundle.manifest import (
    GOLDEN_DTYPES,
    FileEntry,
    GoldenArray,
    GoldenIndex,
    Manifest,
    Metrics,
    Profile,
    Variant,
)
from edgeloop.contract import FREE, Contract, InputSpec
from edgeloop.errors import ConfigError, RefusedError


def decode_manifest(raw: bytes) -> Manifest:
    """Read manifest.json. Raises RefusedError, also where the bytes are not the canonical ones of their content."""
    return manifest_from_dict(parse_canonical_json(raw, "manifest.json"))


def manifest_from_dict(data: Mapping[str, Any]) -> Manifest:
    """The inverse of `Manifest.to_dict`, everything checked. Unknown keys are passed over. Raises RefusedError."""
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
