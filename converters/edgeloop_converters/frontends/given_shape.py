"""`--shape` at a model's inputs: it settles free sizes, and what it cannot settle is said. Standard library only.

A shape that the user gave must have something to say: one that contradicts the model, or finds nothing free, is an
error. What contract and data say of a sample is taken where it fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeloop.errors import UsageError

Dims = Sequence["int | None"]

_HINT = "sizes of one sample, without the batch; where the model has a number, that one. '?' is free"


class GivenShape:
    """request: `shape` (sizes of one sample, for every input that they fit) or `shapes` (by input name), both as the
    user gave them; `sample_shape` (the same two forms): as contract and data have it.
    """

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._one: Sequence[int] | None = request.get("shape")
        self._named: Mapping[str, Sequence[int]] = request.get("shapes") or {}
        self._known: Any = request.get("sample_shape")
        self._fits: set[str] = set()
        self._why_not: dict[str, str] = {}

    def settle(self, name: str, dims: Dims, batch: int) -> list[int | None]:
        """`dims` (with the batch) of input `name`, free ones filled in where that is known.

        Raises UsageError for a shape given for this very input that it cannot have.
        """
        settled = [batch if i == 0 and d is None else d for i, d in enumerate(dims)]
        given = self._named.get(name, self._one)
        if given is None:
            known = self._known.get(name) if isinstance(self._known, Mapping) else self._known
            return settled if known is None else _filled(settled, known)
        sizes = list(given)
        if len(sizes) == len(dims) and sizes[:1] == [batch]:  # the batch was said as well
            sizes = sizes[1:]
        if len(sizes) == len(dims) - 1 and all(d in (None, g) for d, g in zip(settled[1:], sizes, strict=True)):
            self._fits.add(name)
            return _filled(settled, sizes)
        self._why_not[name] = _misfit(given, name, dims)
        if name in self._named:
            self.check_fits(name)
        return settled

    def check_fits(self, name: str) -> None:
        """Of an input that stays free. Raises UsageError where a shape was given that it cannot have."""
        if name in self._why_not:
            raise UsageError(self._why_not[name], hint=_HINT)

    def check_used(self, names: Sequence[str]) -> None:
        """After all inputs. Raises UsageError for a shape that no input could take."""
        unknown = sorted(set(self._named) - set(names))
        if unknown:
            raise UsageError(f"--shape: the model has no input '{unknown[0]}'", hint=f"it has: {', '.join(names)}")
        if self._one is not None and not self._fits:
            more = f" (and {len(self._why_not) - 1} more inputs)" if len(self._why_not) > 1 else ""
            raise UsageError(f"{next(iter(self._why_not.values()))}{more}", hint=_HINT)


def _misfit(given: Sequence[int], name: str, dims: Dims) -> str:
    shape = f"--shape {'x'.join(map(str, given))}"
    if len(given) != len(dims) - 1 and len(dims) > 1:
        axes = "dimension" if len(given) == 1 else "dimensions"
        return f"{shape} has {len(given)} {axes}, input '{name}' takes {len(dims) - 1}: {_text(dims)}"
    return f"{shape}: input '{name}' takes {_text(dims)}"


def _filled(dims: Dims, sizes: Sequence[int]) -> list[int | None]:
    if len(sizes) != len(dims) - 1:
        return list(dims)
    return [dims[0], *(given if d is None else d for d, given in zip(dims[1:], sizes, strict=True))]


def _text(dims: Dims) -> str:
    return "x".join("?" if d is None else str(d) for d in dims[1:]) or "a single number"
