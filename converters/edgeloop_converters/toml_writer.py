"""Plain values to TOML that `edgeloop.tomlfile.parse_toml` reads back unchanged (by tomli-w)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def to_toml(data: Mapping[str, Any]) -> str:
    """Mappings become tables; None values, which TOML does not have, are left out.

    Raises ValueError for what TOML cannot say: NaN, infinity, None in a list, other types.
    """
    import tomli_w

    try:
        return tomli_w.dumps(_writable(data))
    except TypeError as error:
        raise ValueError(str(error)) from error


def _writable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _writable(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_writable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} cannot be written")
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # a file name that is not UTF-8 holds lone surrogates
    return value
