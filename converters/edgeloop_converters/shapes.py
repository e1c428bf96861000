"""`--shape`: what is said of a model's free sizes, and as text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeloop.errors import UsageError

MAX_AXES = 7
MAX_SIZE = 1 << 20
MAX_SHAPES = 16

_EXAMPLE = "sizes of one sample: --shape 3x224x224"
_BY_NAME = "--shape ids=16,mask=16"
_NEXT_INPUT = re.compile(r",(?=[^=,]+=)")


@dataclass(frozen=True)
class GivenShape:
    """The sizes of one sample, without the batch. `sizes`: (input name, sizes) pairs; the name "" stands for every
    input that they fit. Raises UsageError for what cannot be a shape.
    """

    sizes: tuple[tuple[str, tuple[int, ...]], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.sizes]
        for _, sizes in self.sizes:
            if not 1 <= len(sizes) <= MAX_AXES or not all(_is_size(n) for n in sizes):
                raise UsageError(
                    f"shape {list(sizes)} is not a list of 1 to {MAX_AXES} sizes", hint="--shape 3x224x224"
                )
        if not names or len(set(names)) != len(names) or ("" in names and len(names) > 1):
            raise UsageError(
                f"--shape {self}: one shape for all inputs, or one per input", hint="--shape ids=16,mask=16"
            )

    def given(self) -> Sequence[int] | Mapping[str, Sequence[int]]:
        """As the frontends take it."""
        return self.sizes[0][1] if self.sizes[0][0] == "" else dict(self.sizes)

    def __str__(self) -> str:
        parts = [("x".join(map(str, sizes)), name) for name, sizes in self.sizes]
        return ",".join(f"{name}={text}" if name else text for text, name in parts)


def parse_shape(text: str) -> GivenShape:
    """`3x224x224` or `3,224,224`; `ids=16,mask=16` by input name. Raises UsageError."""
    pairs = []
    for part in _NEXT_INPUT.split(text):
        name, equals, sizes = part.rpartition("=")
        numbers = sizes.lower().replace(",", "x").split("x")
        if not all(n.isascii() and n.isdigit() for n in numbers) or (equals and not name):
            raise UsageError(
                f"--shape {text!r} is not a shape", hint="sizes of one sample: --shape 3x224x224, or ids=16,mask=16"
            )
        pairs.append((name.strip(), tuple(int(n) for n in numbers)))
    return GivenShape(tuple(pairs))


def shapes_of(values: object) -> tuple[GivenShape, ...]:
    """From a list of sizes (one shape), of texts, or of lists of sizes; each once. Raises UsageError."""
    if not isinstance(values, (list, tuple)):
        raise UsageError(f"shape {values!r} is not a list", hint='shape = [20, 10], or shape = ["16", "32"]')
    if values and all(isinstance(v, int) for v in values):
        return (GivenShape((("", tuple(values)),)),)
    shapes = []
    for value in values:
        if isinstance(value, GivenShape):
            shapes.append(value)
        elif isinstance(value, str):
            shapes.append(parse_shape(value))
        elif isinstance(value, (list, tuple)):
            shapes.append(GivenShape((("", tuple(value)),)))
        else:
            raise UsageError(f"shape {value!r} is not a shape", hint="sizes of one sample: 3x224x224")
    if len(shapes) > MAX_SHAPES:
        raise UsageError(f"{len(shapes)} shapes are more than {MAX_SHAPES}")
    return tuple(dict.fromkeys(shapes))


def plain_shapes(shapes: Sequence[GivenShape]) -> list[int] | list[str] | None:
    """The inverse of `shapes_of`, for TOML."""
    if len(shapes) == 1 and shapes[0].sizes[0][0] == "":
        return list(shapes[0].sizes[0][1])
    return [str(shape) for shape in shapes] or None


def _is_size(n: object) -> bool:
    return isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= MAX_SIZE
