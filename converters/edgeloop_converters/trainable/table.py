"""Which ops are known: name -> how it is computed, and when the batch may simply come along. Data only."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgeloop_converters.trainable.call import Call, broadcasts, only_first, only_third, regroups
from edgeloop_converters.trainable.ops import activations, dense, pooling, shaping

_OPS = "edgeloop_converters.trainable.ops."
Build = Callable[[Any, Call], Any]


@dataclass(frozen=True)
class Entry:
    """home: "module:function" of the package `ops`. leads: whether the first axis, which holds the batch, only comes
    along; where not, the op is computed sample by sample (vectorized). static: inputs whose values must be known
    beforehand. weights: inputs that are trained where they are float32 constants.
    """

    home: str
    leads: Callable[[Call], bool] = broadcasts
    static: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()

    def build(self) -> Build:
        module, _, name = self.home.partition(":")
        function: Build = getattr(importlib.import_module(_OPS + module), name)
        return function


_BOTH = (0, 1)

OPS: Mapping[str, Entry] = {
    "CONV_2D": Entry("convolution:conv_2d", only_first, weights=(1, 2)),
    "DEPTHWISE_CONV_2D": Entry("convolution:depthwise_conv_2d", only_first, weights=(1, 2)),
    "TRANSPOSE_CONV": Entry("convolution:transpose_conv", only_third, weights=(1, 3)),
    "FULLY_CONNECTED": Entry("dense:fully_connected", regroups, weights=(1, 2)),
    "BATCH_MATMUL": Entry("dense:batch_matmul", dense.batch_axes_apart, weights=_BOTH),
    "ADD": Entry("elementwise:add", weights=_BOTH),
    "SUB": Entry("elementwise:sub", weights=_BOTH),
    "MUL": Entry("elementwise:mul", weights=_BOTH),
    "DIV": Entry("elementwise:div", weights=_BOTH),
    "ADD_N": Entry("elementwise:add_n"),
    **{
        name: Entry("elementwise:plain")
        for name in (
            "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "POW", "FLOOR_DIV", "FLOOR_MOD", "ABS", "NEG", "EXP", "LOG",
            "SQRT", "RSQRT", "SQUARE", "SIN", "COS", "FLOOR", "CEIL", "ROUND", "SIGN", "EQUAL", "NOT_EQUAL", "GREATER",
            "GREATER_EQUAL", "LESS", "LESS_EQUAL", "LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT",
        )
    },
    "SELECT": Entry("elementwise:select"),
    "SELECT_V2": Entry("elementwise:select"),
    "CAST": Entry("elementwise:cast"),
    "RELU": Entry("activations:relu"),
    "RELU6": Entry("activations:relu6"),
    "RELU_N1_TO_1": Entry("activations:relu_n1_to_1"),
    "RELU_0_TO_1": Entry("activations:relu_0_to_1"),
    "LOGISTIC": Entry("activations:logistic"),
    "TANH": Entry("activations:tanh"),
    "ELU": Entry("activations:elu"),
    "HARD_SWISH": Entry("activations:hard_swish"),
    "GELU": Entry("activations:gelu"),
    "LEAKY_RELU": Entry("activations:leaky_relu"),
    "PRELU": Entry("activations:prelu", weights=(1,)),
    "SOFTMAX": Entry("activations:softmax", activations.last_axis_only),
    "LOG_SOFTMAX": Entry("activations:log_softmax", activations.last_axis_only),
    "L2_NORMALIZATION": Entry("activations:l2_normalization", activations.last_axis_only),
    "AVERAGE_POOL_2D": Entry("pooling:average_pool_2d", only_first),
    "MAX_POOL_2D": Entry("pooling:max_pool_2d", only_first),
    **{
        name: Entry("pooling:reduce", pooling.other_axes, static=(1,))
        for name in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD")
    },
    "ARG_MAX": Entry("pooling:arg_max", pooling.other_axes, static=(1,)),
    "ARG_MIN": Entry("pooling:arg_max", pooling.other_axes, static=(1,)),
    "RESIZE_BILINEAR": Entry("pooling:resize_bilinear", only_first, static=(1,)),
    "RESIZE_NEAREST_NEIGHBOR": Entry("pooling:resize_nearest_neighbor", only_first, static=(1,)),
    "RESHAPE": Entry("shaping:reshape", regroups),
    "SQUEEZE": Entry("shaping:reshape", regroups),
    "EXPAND_DIMS": Entry("shaping:reshape", regroups),
    "TRANSPOSE": Entry("shaping:transpose", shaping.first_stays_first, static=(1,)),
    "PAD": Entry("shaping:pad", shaping.first_not_padded, static=(1,)),
    "PADV2": Entry("shaping:pad", shaping.first_not_padded, static=(1,)),
    "MIRROR_PAD": Entry("shaping:mirror_pad", shaping.first_not_padded, static=(1,)),
    "CONCATENATION": Entry("shaping:concatenation", shaping.joined_behind),
    "PACK": Entry("shaping:pack", shaping.packed_behind),
    "UNPACK": Entry("shaping:unpack", shaping.unpacked_behind),
    "SPLIT": Entry("shaping:split", shaping.split_behind, static=(0,)),
    "SPLIT_V": Entry("shaping:split_v", shaping.split_behind, static=(1, 2)),
    "SLICE": Entry("shaping:slice_", shaping.first_whole, static=(1, 2)),
    "STRIDED_SLICE": Entry("shaping:strided_slice", shaping.first_not_sliced, static=(1, 2, 3)),
    "GATHER": Entry("shaping:gather", shaping.gathered_behind, weights=(0,)),
    "TILE": Entry("shaping:tile", shaping.first_not_tiled, static=(1,)),
    "BROADCAST_TO": Entry("shaping:broadcast_to", shaping.never, static=(1,)),
    "SPACE_TO_DEPTH": Entry("shaping:space_to_depth", only_first),
    "DEPTH_TO_SPACE": Entry("shaping:depth_to_space", only_first),
    "SPACE_TO_BATCH_ND": Entry("shaping:space_to_batch_nd", shaping.never, static=(1, 2)),
    "BATCH_TO_SPACE_ND": Entry("shaping:batch_to_space_nd", shaping.never, static=(1, 2)),
    "FILL": Entry("shaping:fill", shaping.never, static=(0,)),
    "RANGE": Entry("shaping:range_", shaping.never, static=(0, 1, 2)),
}  # fmt: skip

SHAPE = "SHAPE"
"""Known beforehand: the declared shape, of one sample."""

STATEFUL = frozenset({
    "ASSIGN_VARIABLE", "CALL_ONCE", "READ_VARIABLE", "VAR_HANDLE", "SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "UNIDIRECTIONAL_SEQUENCE_RNN", "BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN", "LSTM", "RNN",
})  # fmt: skip
"""Ops that keep values from one inference to the next: no island, since batches have no order."""
