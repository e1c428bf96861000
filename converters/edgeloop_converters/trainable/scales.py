"""How large a step of training is for each weight.

Adam's steps have the size of the learning rate, whatever the size of what they change. That suits weights of the size
at which networks begin (He et al. 2015), but a .tflite has batch normalization folded into its weights: a channel's may
be hundreds of times smaller (pictures of 0 to 255) or larger. So each channel is trained as a multiple of a power of
two that brings it to that size; nothing is rounded by that.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_SMALLEST = 1 / 16
_CHANNEL_AXIS = {"CONV_2D": 0, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0, "DEPTHWISE_CONV_2D": 3}


def channel_scales(op: str, weights: Floats) -> Floats:
    """Powers of two that broadcast to `weights`, of an op of that name; 1 for what is no convolution or dense layer.

    A channel's scale is its root mean square over sqrt(2 / fan-in), but not below 1/16 of the whole tensor's.
    """
    axis = _CHANNEL_AXIS.get(op)
    if axis is None or weights.ndim < 2 or not weights.any():
        return np.ones((1,) * weights.ndim, np.float32)
    others = tuple(i for i in range(weights.ndim) if i != axis)
    squares = np.square(weights, dtype=np.float64)
    fan_in = weights.size / weights.shape[axis]
    channels = np.sqrt(squares.mean(axis=others, keepdims=True) * fan_in / 2)
    floor = _SMALLEST * np.sqrt(squares.mean() * fan_in / 2)
    scales: Floats = np.exp2(np.rint(np.log2(np.maximum(channels, floor)))).astype(np.float32)
    return scales
