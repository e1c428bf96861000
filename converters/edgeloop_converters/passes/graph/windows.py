"""Where the kernel of a layer lies on its input: from which tensor it reads, and how far its first tap is outside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeloop.graph import Op
from edgeloop_converters.passes.graph.editing import SAME, Editor, Floats
from edgeloop_converters.passes.graph.series import same_padding


@dataclass(frozen=True)
class Window:
    """source: the tensor before padding by zeros, be it the layer's own or an op's. before: rows and columns of zeros
    in front of it. stride, dilation: per axis, height first.
    """

    source: int
    before: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]

    def tap_at_origin(self, kernel: tuple[int, ...]) -> tuple[int, int] | None:
        """The tap [row, column] that reads the very place it answers for; None where there is none."""
        if self.stride != (1, 1):
            return None
        taps = [(b // d, b % d) for b, d in zip(self.before, self.dilation, strict=True)]
        inside = all(not rest and tap < size for (tap, rest), size in zip(taps, kernel, strict=True))
        return (taps[0][0], taps[1][0]) if inside else None


def window_of(editor: Editor, op: Op) -> Window | None:
    """Of a (depthwise) convolution; None where its output is not what its padding says."""
    sizes = editor.shape(op.inputs[0])
    own = [same_padding(editor, op, axis, sizes[1 + axis]) for axis in range(2)]
    if op.option("padding") != SAME:
        own = [(0, 0), (0, 0)]
    if own[0] is None or own[1] is None:
        return None
    source, pads = before_padding(editor, op.inputs[0])
    return Window(
        source, (own[0][0] + pads[0], own[1][0] + pads[1]), (op.option("strideH", 1), op.option("strideW", 1)),
        (op.option("dilationHFactor", 1), op.option("dilationWFactor", 1)),
    )  # fmt: skip


def before_padding(editor: Editor, index: int) -> tuple[int, tuple[int, int]]:
    """(the picture that a PAD by zeros made this one of, rows and columns in front); itself and none without a PAD."""
    pad = editor.maker(index)
    how = editor.data(pad.inputs[1]) if pad is not None and pad.name == "PAD" else None
    if pad is None or how is None:
        return index, (0, 0)
    pads = np.asarray(how, np.int64).reshape(-1, 2).tolist()
    if len(pads) != 4 or any(pads[0]) or any(pads[3]) or editor.main.tensors[index].dtype != "float32":
        return index, (0, 0)
    return pad.inputs[0], (pads[1][0], pads[2][0])


def placed(weights: Floats, window: Window, size: tuple[int, ...], larger: Window) -> Floats | None:
    """The kernel inside one of `size` [out, height, width, in], so that every tap reads what it did; None where it has
    taps outside of that."""
    if (window.source, window.stride) != (larger.source, larger.stride):
        return None
    if weights.shape[0] != size[0] or weights.shape[3] != size[3]:
        return None
    steps = [1 if k == 1 else d for k, d in zip(weights.shape[1:3], window.dilation, strict=True)]
    rows = []
    for axis in range(2):
        first, dilation = larger.before[axis] - window.before[axis], larger.dilation[axis]
        reads = [first + tap * steps[axis] for tap in range(weights.shape[1 + axis])]
        taps = [place // dilation for place in reads]
        if any(place % dilation or not 0 <= place // dilation < size[1 + axis] for place in reads):
            return None
        rows.append(taps)
    found = np.zeros(size, np.float32)
    found[:, np.array(rows[0])[:, None], np.array(rows[1])] = weights
    return found
