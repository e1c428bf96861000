"""What a recipe may say of variants to step among."""

from __future__ import annotations

from collections.abc import Sequence

from edgeloop.errors import UsageError
from edgeloop_converters.recipe_steps import EXITS, FLOAT_PASSES, QAT, PassStep


def check_variants(
    widths: Sequence[float], passes: Sequence[PassStep], optimize: str, engine: str, shapes: int
) -> None:
    """Raises UsageError for widths that are no shares of the cost, and where several variants cannot be made."""
    exits = any(step.name == EXITS for step in passes)
    percents = {round(100 * width) for width in widths if isinstance(width, float) and 0 < width < 1}
    if len(percents) != len(widths):
        raise UsageError(
            f"widths {', '.join(map(str, widths))} are not different shares of the cost", hint="for example 0.75,0.5"
        )
    what = "widths" if widths else "exits" if exits else ""
    for is_so, other in (
        (bool(optimize), "optimize"),
        (engine != "aeq", "engine tflite"),
        (shapes > 1, "several shapes"),
    ):
        if what and is_so:
            raise UsageError(f"{what} and {other} together are not possible", hint="leave out one of them")


def with_exits(passes: Sequence[PassStep], at: Sequence[float]) -> tuple[PassStep, ...]:
    """The passes with exit heads near these shares, behind what changes the float model and before `QAT`."""
    others = [step for step in passes if step.name != EXITS]
    behind = next(
        (i for i, step in enumerate(others) if step.name not in FLOAT_PASSES or step.name == QAT), len(others)
    )
    return (*others[:behind], PassStep(EXITS, {"at": list(at)}), *others[behind:])


def shares_of(text: str, what: str) -> tuple[float, ...]:
    """ "0.75,0.5" -> (0.75, 0.5). Raises UsageError."""
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise UsageError(f"{what} {text!r} are not shares of the cost", hint=f"for example {what} 0.75,0.5") from None
