"""The arrays of a source by name, each opened when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeloop_converters.data.dataset import Dataset


class LazyParts(Mapping[str, "Dataset"]):
    """Data sets by name, each opened when it is first asked for. lengths: how many samples each has."""

    def __init__(self, lengths: Mapping[str, int], load: Callable[[str], Dataset]) -> None:
        self.lengths = lengths
        self._load = load
        self._open: dict[str, Dataset] = {}

    def __getitem__(self, name: str) -> Dataset:
        if name not in self.lengths:
            raise KeyError(name)
        if name not in self._open:
            self._open[name] = self._load(name)
        return self._open[name]

    def __contains__(self, name: object) -> bool:
        return name in self.lengths

    def __iter__(self) -> Iterator[str]:
        return iter(self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)


def lengths_of(parts: Mapping[str, Dataset]) -> Mapping[str, int]:
    """How many samples each has, without opening any."""
    return parts.lengths if isinstance(parts, LazyParts) else {name: len(part) for name, part in parts.items()}
