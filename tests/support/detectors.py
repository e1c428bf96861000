"""Tiny detectors: graphs that end in the real TFLite_Detection_PostProcess, fed with raw boxes and scores."""

from __future__ import annotations

import numpy as np

from edgeloop.graph import Graph, Op, Subgraph, Tensor

MAX_DETECTIONS = 10


def anchor_grid(cells: int = 5, side: float = 0.3) -> np.ndarray:
    """float32 [cells * cells, 4]: (cy, cx, h, w) in fractions."""
    centers = (np.arange(cells, dtype=np.float32) + 0.5) / cells
    y, x = np.meshgrid(centers, centers, indexing="ij")
    return np.stack([y.ravel(), x.ravel(), np.full(cells**2, side), np.full(cells**2, side)], axis=1).astype(np.float32)


def postprocess_model(anchors: np.ndarray, classes: int, *, iou: float = 0.5, threshold: float = 0.3) -> bytes:
    """boxes [1, n, 4] and scores [1, n, 1 + classes] (0 is the background) in; boxes, classes, scores, count out."""
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
    n = len(anchors)
    tensors = [
        Tensor("raw_boxes", (1, n, 4), "float32"),
        Tensor("raw_scores", (1, n, 1 + classes), "float32"),
        Tensor("anchors", anchors.shape, "float32", data=anchors),
        *(Tensor(f"TFLite_Detection_PostProcess{suffix}", (), "float32") for suffix in ("", ":1", ":2", ":3")),
    ]
    op = Op(
        "TFLite_Detection_PostProcess", [0, 1, 2], [3, 4, 5, 6], custom=True, custom_options=bytes(builder.Finish())
    )
    return Graph([Subgraph("main", tensors, [0, 1], [3, 4, 5, 6], [op])]).write()
