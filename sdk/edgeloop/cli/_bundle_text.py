"""What is in a bundle, as lines for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from edgeloop.cli._words import counted
from edgeloop.latency_text import milliseconds

if TYPE_CHECKING:
    from edgeloop.bundle import Manifest, Variant


def summary(manifest: Manifest, file_bytes: int, state: str) -> str:
    from edgeloop.bundle.checked import printable
    from edgeloop.bundle.limits import GOLDEN

    lines = [
        f"{manifest.name} {manifest.version} for {manifest.target}, {file_bytes} bytes",
        f"  {state}",
        *(variant_line(v, is_first=i == 0) for i, v in enumerate(manifest.variants)),
        *(_input_line(manifest, i) for i in range(len(manifest.contract.inputs))),
        f"  output   {manifest.contract.output.kind}" + _labels(manifest) + _settings(manifest),
    ]
    if manifest.golden is not None:
        n = manifest.golden.arrays[0].shape[0]
        steps = ", ".join(f"{family} {steps:g}" for family, steps in sorted(manifest.golden.tolerance_steps.items()))
        lines.append(
            f"  golden   {n} samples, {manifest.files[GOLDEN].bytes} bytes, tolerance in output steps: {steps}"
        )
    else:
        lines.append("  golden   none: devices cannot test themselves")
    if manifest.runtime:
        lines.append(
            "  runtime  " + ", ".join(f"{family} >= {version}" for family, version in sorted(manifest.runtime.items()))
        )
    return "\n".join(printable(line) for line in lines)


def variant_line(variant: Variant, *, is_first: bool) -> str:
    parts = [f"  {'variant' if is_first else '       '}  {variant.name}: {variant.scheme}, {variant.bytes} bytes"]
    metrics, profile = variant.metrics, variant.profile
    if variant.input_shapes:
        parts.append("samples up to " + ", ".join("x".join(map(str, shape)) for shape in variant.input_shapes))
    if metrics is not None:
        if metrics.this is not None:
            before = "" if metrics.float_ is None else f" (float {metrics.float_:.2%})"
            parts.append(f"{metrics.metric} {metrics.this:.2%}{before}")
        if metrics.agreement is not None and metrics.metric != "agreement":
            parts.append(f"agreement {metrics.agreement:.2%}")
        parts.append(f"evaluated on {metrics.n}")
    if profile is not None:
        p50, p95 = milliseconds(profile.p50_ms, profile.p95_ms)
        parts.append(
            f"p50 {p50}, p95 {p95} on {profile.device} "
            f"({profile.delegate}, {counted(profile.threads, 'thread')}, {counted(profile.n, 'run')})"
        )
    if variant.delegates:
        parts.append("delegates " + " > ".join(variant.delegates))
    return ", ".join(parts)


def _input_line(manifest: Manifest, index: int) -> str:
    spec = manifest.contract.inputs[index]
    name = f"{spec.name}: " if spec.name else ""
    scaling = f"(x - {_numbers(spec.mean)}) / {_numbers(spec.std)}"
    if spec.kind == "image" and spec.size is not None:
        return f"  input    {name}image {spec.size[0]}x{spec.size[1]} {spec.color}, {spec.resize}, {scaling}" + (
            ", scaled decode" if spec.scaled_decode else ""
        )
    shape = "x".join("?" if n < 0 else str(n) for n in spec.shape) if spec.shape else "any shape"
    return f"  input    {name}{spec.kind} {shape}, {scaling}"


def _settings(manifest: Manifest) -> str:
    """How the output is decoded where that is not the default; of tables only how many rows they have."""
    settings = manifest.contract.output.settings
    said = {} if settings is None else settings.to_dict()
    return "".join(
        f", {key} {len(value) if isinstance(value, list) and key in ('anchors', 'gallery') else json.dumps(value)}"
        for key, value in said.items()
    )


def _labels(manifest: Manifest) -> str:
    labels = manifest.contract.output.labels
    if not labels:
        return ""
    shown = ", ".join(labels[:5]) + (", ..." if len(labels) > 5 else "")
    return f", {len(labels)} labels: {shown}"


def _numbers(values: tuple[float, ...]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else "[" + ", ".join(f"{v:g}" for v in values) + "]"
