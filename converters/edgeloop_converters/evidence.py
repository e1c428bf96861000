"""What a model file itself says about how its input is scaled; pure, for when there are no labels to try."""

from __future__ import annotations

from dataclasses import dataclass

from edgeloop.graph import Graph


@dataclass(frozen=True)
class Evidence:
    """Scaling that the file gives away. why: for the user, "its first op divides by 255"."""

    mean: float
    std: float
    why: str


_NEAR = 0.06


def input_evidence(graph: Graph) -> Evidence | None:
    """None when nothing speaks for any scaling."""
    tensor = graph.inputs[0]
    affine = tensor.affine
    if affine.is_quantized and tensor.dtype in ("int8", "uint8"):
        first = -128 if tensor.dtype == "int8" else 0
        low = affine.scale * (first - affine.zero_point)
        high = affine.scale * (first + 255 - affine.zero_point)
        for mean, std in ((0.0, 1.0), (0.0, 255.0), (127.5, 127.5)):
            wanted_low, wanted_high = (0 - mean) / std, (255 - mean) / std
            span = wanted_high - wanted_low
            if abs(low - wanted_low) < _NEAR * span and abs(high - wanted_high) < _NEAR * span:
                return Evidence(mean, std, f"its quantized input covers {low:.3g}..{high:.3g}")
        return None
    return _rescaling_inside(graph)


def _rescaling_inside(graph: Graph) -> Evidence | None:
    """A model that begins by multiplying with 1/255 or so takes raw pixels."""
    main = graph.main
    for op in main.ops[:2]:
        if main.inputs[0] not in op.inputs or op.name not in ("MUL", "DIV", "SUB"):
            continue
        constants = [t for t in main.input_tensors(op) if t is not None and t.data is not None and t.data.size]
        if not constants:
            continue
        value = float(abs(constants[0].data.astype(float)).max())  # type: ignore[union-attr]
        scale = value if op.name == "MUL" else 1 / max(value, 1e-9)
        if 1 / 300 <= scale <= 1 / 50:
            return Evidence(0.0, 1.0, f"its first op ({op.name}) scales pixels itself")
    return None
