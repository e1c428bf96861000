"""Ops that move elements and compute nothing."""

from __future__ import annotations

from typing import Any

from edgeloop_converters.trainable.call import Call, axis_of


def reshape(tf: Any, call: Call) -> Any:
    """RESHAPE, SQUEEZE and EXPAND_DIMS: the declared output shape says all."""
    return tf.reshape(call.inputs[0], call.out_shape())


def transpose(tf: Any, call: Call) -> Any:
    return tf.transpose(call.inputs[0], call.integers(1))


def first_stays_first(call: Call) -> bool:
    return call.integers(1)[:1] == [0]


def pad(tf: Any, call: Call) -> Any:
    value = call.inputs[2] if call.given(2) else 0
    return tf.pad(call.inputs[0], call.constant(1), constant_values=value)


def mirror_pad(tf: Any, call: Call) -> Any:
    mode = "SYMMETRIC" if call.op.option("mode") else "REFLECT"
    return tf.pad(call.inputs[0], call.constant(1), mode=mode)


def first_not_padded(call: Call) -> bool:
    return call.integers(1)[:2] == [0, 0] and not any(call.batched[1:])


def concatenation(tf: Any, call: Call) -> Any:
    from edgeloop_converters.trainable.ops.activations import fused

    y = tf.concat(call.inputs, axis=_axis(call))
    return fused(tf, y, call.op.option("fusedActivationFunction"))


def joined_behind(call: Call) -> bool:
    """Along another axis than the first, and every part is there for every sample."""
    return all(call.batched) and _axis(call) > 0


def pack(tf: Any, call: Call) -> Any:
    return tf.stack(call.inputs, axis=axis_of(call.op.option("axis"), len(call.outputs[0])))


def packed_behind(call: Call) -> bool:
    return all(call.batched) and axis_of(call.op.option("axis"), len(call.outputs[0])) > 0


def unpack(tf: Any, call: Call) -> Any:
    return tf.unstack(call.inputs[0], num=len(call.outputs), axis=_axis(call))


def unpacked_behind(call: Call) -> bool:
    return _axis(call) > 0


def split(tf: Any, call: Call) -> Any:
    axis = axis_of(call.integers(0)[0], len(call.shapes[1]))
    return tf.split(call.inputs[1], len(call.outputs), axis=axis)


def split_v(tf: Any, call: Call) -> Any:
    axis = axis_of(call.integers(2)[0], len(call.shapes[0]))
    return tf.split(call.inputs[0], [shape[axis] for shape in call.outputs], axis=axis)


def split_behind(call: Call) -> bool:
    at, source = (0, 1) if call.op.name == "SPLIT" else (2, 0)
    return axis_of(call.integers(at)[0], len(call.shapes[source])) > 0


def slice_(tf: Any, call: Call) -> Any:
    """The sizes are those declared; -1 along the batch."""
    return tf.slice(call.inputs[0], call.integers(1), call.out_shape())


def first_whole(call: Call) -> bool:
    return call.integers(1)[:1] == [0] and call.outputs[0][:1] == call.shapes[0][:1]


def strided_slice(tf: Any, call: Call) -> Any:
    option = call.op.option
    begin, end, strides = (call.integers(i) for i in (1, 2, 3))
    if option("offset"):
        end = [a + b for a, b in zip(begin, end, strict=True)]
    whole = 0 if call.exact else 1
    return tf.strided_slice(
        call.inputs[0],
        begin,
        end,
        strides,
        begin_mask=option("beginMask") | whole,
        end_mask=option("endMask") | whole,
        ellipsis_mask=option("ellipsisMask"),
        new_axis_mask=option("newAxisMask"),
        shrink_axis_mask=option("shrinkAxisMask"),
    )


def first_not_sliced(call: Call) -> bool:
    option = call.op.option
    if (option("shrinkAxisMask") | option("newAxisMask") | option("ellipsisMask")) & 1:
        return False
    return call.integers(3)[:1] == [1] and bool(call.outputs[0]) and call.outputs[0][0] == call.shapes[0][0]


def gather(tf: Any, call: Call) -> Any:
    options = call.op.options
    axis = axis_of(int(getattr(options, "axis", 0)), len(call.shapes[0]))
    return tf.gather(call.inputs[0], call.inputs[1], axis=axis, batch_dims=int(getattr(options, "batchDims", 0)))


def gathered_behind(call: Call) -> bool:
    """From another axis with fixed indices, or rows of a fixed table."""
    axis = axis_of(call.op.option("axis"), len(call.shapes[0]))
    if call.batched[0]:
        return not call.batched[1] and axis > 0 and call.op.option("batchDims") == 0
    return axis == 0 and bool(call.shapes[1])


def tile(tf: Any, call: Call) -> Any:
    return tf.tile(call.inputs[0], call.integers(1))


def first_not_tiled(call: Call) -> bool:
    return call.integers(1)[:1] == [1]


def broadcast_to(tf: Any, call: Call) -> Any:
    return tf.broadcast_to(call.inputs[0], call.outputs[0])


def never(call: Call) -> bool:
    """Sample by sample only."""
    return False


def space_to_depth(tf: Any, call: Call) -> Any:
    return tf.nn.space_to_depth(call.inputs[0], call.op.option("blockSize"))


def depth_to_space(tf: Any, call: Call) -> Any:
    return tf.nn.depth_to_space(call.inputs[0], call.op.option("blockSize"))


def space_to_batch_nd(tf: Any, call: Call) -> Any:
    return tf.space_to_batch(call.inputs[0], call.integers(1), call.constant(2))


def batch_to_space_nd(tf: Any, call: Call) -> Any:
    return tf.raw_ops.BatchToSpaceND(
        input=call.inputs[0], block_shape=call.integers(1), crops=call.constant(2).tolist()
    )


def fill(tf: Any, call: Call) -> Any:
    return tf.fill(call.outputs[0], call.inputs[1])


def range_(tf: Any, call: Call) -> Any:
    return tf.range(*[call.constant(i).reshape(())[()] for i in range(3)])


def _axis(call: Call) -> int:
    return axis_of(call.op.option("axis"), len(call.shapes[0]))
