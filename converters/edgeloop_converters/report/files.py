"""report.json and report.html on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeloop.bundle.files import write_atomically
from edgeloop.errors import UsageError
from edgeloop_converters.report.page import render
from edgeloop_converters.report.sections.latency import Latencies


def write_report(
    json_path: Path,
    html_path: Path,
    report: Mapping[str, Any],
    *,
    device: str = "",
    latency: Mapping[str, Latencies] | None = None,
) -> None:
    """Write both files, each whole or not at all; folders are made. Raises UsageError where that is not possible."""
    plain = finite(report)
    text = json.dumps(plain, ensure_ascii=False, indent=1, allow_nan=False)
    page = render(plain, device=device, latency=latency)
    try:
        for path, content in ((json_path, text + "\n"), (html_path, page)):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content.encode("utf-8", "replace"))
    except OSError as error:
        raise UsageError(f"report {path}: {error.strerror}") from error


def finite(value: Any) -> Any:
    """Plain JSON values; NaN and infinity, which JSON does not have, become None."""
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
