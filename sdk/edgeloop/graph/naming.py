"""Names people can use, made from those that converters leave."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgeloop.graph.values import Signature, Subgraph

DEFAULT_KEY = "serving_default"


def default_signature(subgraph: Subgraph, taken_keys: set[str]) -> Signature:
    """Argument names from tensor names, without what TensorFlow adds; `input_0`, `output_1` where nothing sensible is
    left.
    """
    return Signature(
        key=_unique([DEFAULT_KEY], taken_keys)[0],
        subgraph=0,
        inputs=_arguments(subgraph, subgraph.inputs, "input"),
        outputs=_arguments(subgraph, subgraph.outputs, "output"),
    )


def printable(name: str, limit: int = 200) -> str:
    """A name from a file, fit to be shown: no control characters, no bytes that were not UTF-8, not without end."""
    shown = name if len(name) <= limit else name[: limit - 1] + "…"
    return "".join(c if c.isprintable() else "�" for c in shown)


def make_unique(subgraph: Subgraph) -> int:
    """Rename tensors whose name is empty or taken by one before. Returns how many."""
    wanted = [tensor.name or f"tensor_{index}" for index, tensor in enumerate(subgraph.tensors)]
    names = _unique(wanted, {tensor.name for tensor in subgraph.tensors} - set(wanted))
    changed = 0
    for tensor, name in zip(subgraph.tensors, names, strict=True):
        changed += tensor.name != name
        tensor.name = name
    return changed


def _arguments(subgraph: Subgraph, indices: Sequence[int], fallback: str) -> dict[str, int]:
    wanted = [_sensible(subgraph.tensors[index].name) or f"{fallback}_{n}" for n, index in enumerate(indices)]
    return dict(zip(_unique(wanted, set()), indices, strict=True))


def _sensible(name: str) -> str:
    """ "serving_default_image:0" -> "image"; "" for names of TensorFlow's own call wrappers and for fused ones."""
    plain = re.sub(r":\d+$", "", name).removeprefix("serving_default_")
    if ";" in plain or plain.startswith(("StatefulPartitionedCall", "PartitionedCall")) or plain == "Identity":
        return ""
    plain = re.sub(r"[^\w./-]+", "_", plain, flags=re.ASCII)
    return "" if not plain.strip("_./-") else plain


def _unique(wanted: Sequence[str], taken: set[str]) -> list[str]:
    """`wanted` in order; a repeated name gets `_1`, `_2`, ..., never a name that another one was given as its own."""
    reserved = set(wanted)
    used = set(taken)
    names = []
    for name in wanted:
        candidate, number = name, 0
        while candidate in used or (number and candidate in reserved):
            number += 1
            candidate = f"{name}_{number}"
        used.add(candidate)
        names.append(candidate)
    return names
