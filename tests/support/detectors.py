"""Tiny detectors: graphs that end in the real TFLite_Detection_PostProcess, fed with raw boxes and scores."""

from __future__ import annotations

import numpy as np

from edgeloop.graph import Graph, Op, Subgraph, Tensor, make_options

MAX_DETECTIONS = 10


def anchor_grid(cells: int = 5, side: float = 0.3) -> np.ndarray:
    """float32 [cells * cells, 4]: (cy, cx, h, w) in fractions."""
    centers = (np.arange(cells, dtype=np.float32) + 0.5) / cells
    y, x = np.meshgrid(centers, centers, indexing="ij")
    return np.stack([y.ravel(), x.ravel(), np.full(cells**2, side), np.full(cells**2, side)], axis=1).astype(np.float32)


def postprocess_model(anchors: np.ndarray, classes: int, *, iou: float = 0.5, threshold: float = 0.3) -> bytes:
    """boxes [1, n, 4] and scores [1, n, 1 + classes] (0 is the background) in; boxes, classes, scores, count out."""
    n = len(anchors)
    tensors = [
        Tensor("raw_boxes", (1, n, 4), "float32"),
        Tensor("raw_scores", (1, n, 1 + classes), "float32"),
        Tensor("anchors", anchors.shape, "float32", data=anchors),
        *(Tensor(f"TFLite_Detection_PostProcess{suffix}", (), "float32") for suffix in ("", ":1", ":2", ":3")),
    ]
    op = Op("TFLite_Detection_PostProcess", [0, 1, 2], [3, 4, 5, 6], custom=True)
    op.custom_options = _postprocess_options(classes, iou, threshold)
    return Graph([Subgraph("main", tensors, [0, 1], [3, 4, 5, 6], [op])]).write()


def _postprocess_options(classes: int, iou: float, threshold: float) -> bytes:
    from flatbuffers import flexbuffers

    builder = flexbuffers.Builder()
    with builder.Map():
        for key, value in (("max_detections", MAX_DETECTIONS), ("max_classes_per_detection", 1),
                           ("detections_per_class", 100), ("num_classes", classes)):  # fmt: skip
            builder.Int(key, value)
        for key, number in (("nms_score_threshold", threshold), ("nms_iou_threshold", iou), ("y_scale", 10.0),
                            ("x_scale", 10.0), ("h_scale", 5.0), ("w_scale", 5.0)):  # fmt: skip
            builder.Float(key, number)
        builder.Bool("use_regular_nms", True)
    return bytes(builder.Finish())


SIDE, CELLS = 64, 8
RED_LABELS = ("red thing",)


def red_detector(*, finished: bool) -> bytes:
    """A float detector of red things of 8 x 8 pixels or more in a picture [1, 64, 64, 3] of 0..1: boxes of 16 pixels on
    a grid of 8, one class.

    finished: it ends in TFLite_Detection_PostProcess; else it gives raw_boxes [1, 64, 4] and raw_scores [1, 64, 2].
    """
    n = CELLS**2
    step = SIDE // CELLS
    redness = np.array([[0, 0, 0], [1, -0.5, -0.5]], np.float32).reshape(2, 1, 1, 3)
    constants = {
        "redness": redness, "redness_bias": np.array([0.1, 0], np.float32),
        "no_offset": np.zeros((4, 1, 1, 3), np.float32), "no_bias": np.zeros(4, np.float32),
        "scores_shape": np.array([1, n, 2], np.int32), "boxes_shape": np.array([1, n, 4], np.int32),
        "anchors": anchor_grid(CELLS, 16 / SIDE),
    }  # fmt: skip
    shapes = {
        "picture": (1, SIDE, SIDE, 3), "pooled": (1, CELLS, CELLS, 3), "score_map": (1, CELLS, CELLS, 2),
        "box_map": (1, CELLS, CELLS, 4), "raw_boxes": (1, n, 4), "raw_scores": (1, n, 2),
    }  # fmt: skip
    found = [f"TFLite_Detection_PostProcess{suffix}" for suffix in ("", ":1", ":2", ":3")] if finished else []
    tensors = [Tensor(name, shape, "float32") for name, shape in shapes.items()]
    tensors += [Tensor(name, array.shape, str(array.dtype), data=array) for name, array in constants.items()]
    tensors += [Tensor(name, (), "float32") for name in found]
    at = {tensor.name: i for i, tensor in enumerate(tensors)}

    def op(kind: str, inputs: str, output: str, options: str = "", **fields: int) -> Op:
        return Op(kind, [at[name] for name in inputs.split()], [at[output]], make_options(options, **fields))

    conv = {"padding": 1, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    ops = [
        op("AVERAGE_POOL_2D", "picture", "pooled", "Pool2DOptions", padding=1, strideH=step, strideW=step,
           filterHeight=step, filterWidth=step),
        op("CONV_2D", "pooled redness redness_bias", "score_map", "Conv2DOptions", **conv),
        op("CONV_2D", "pooled no_offset no_bias", "box_map", "Conv2DOptions", **conv),
        op("RESHAPE", "score_map scores_shape", "raw_scores", "ReshapeOptions"),
        op("RESHAPE", "box_map boxes_shape", "raw_boxes", "ReshapeOptions"),
    ]  # fmt: skip
    outputs = ["raw_boxes", "raw_scores"]
    if finished:
        inputs = [at[name] for name in ("raw_boxes", "raw_scores", "anchors")]
        options = _postprocess_options(len(RED_LABELS), 0.5, 0.3)
        ops.append(Op("TFLite_Detection_PostProcess", inputs, [at[name] for name in found], custom=True))
        ops[-1].custom_options = options
        outputs = found
    return Graph([Subgraph("main", tensors, [at["picture"]], [at[name] for name in outputs], ops)]).write()


def red_picture(height: int, width: int, y: int, x: int, side: int) -> np.ndarray:
    """uint8 [height, width, 3] BGR: gray noise with a red square centered at (y, x)."""
    picture = np.random.default_rng(y).integers(90, 110, (height, width, 1)).astype(np.uint8).repeat(3, axis=2)
    picture[y - side // 2 : y + side // 2, x - side // 2 : x + side // 2] = (10, 10, 240)
    return picture
