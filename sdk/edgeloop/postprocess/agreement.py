"""How far two results of one frame say the same, 0..1: one measure for conversion and for audits on a device."""

from __future__ import annotations

import numpy as np

from edgeloop.postprocess.results import Box, Detection, Keypoint, Mask, Result

MATCHING_IOU = 0.5
NEAR = 0.1
"""Keypoints are the same within this share of the body's diagonal (PCK, Yang & Ramanan 2013)."""
SURE = 0.2
"""Keypoints that the reference is less sure of do not count."""


def detections_agree(reference: tuple[Detection, ...], other: tuple[Detection, ...]) -> float:
    """F1 of the boxes of `other`, each matched with the best free one of the same class by IoU >= 0.5."""
    if not reference or not other:
        return float(len(reference) == len(other))
    free = list(reference)
    matched = 0
    for found in other:
        near = [(overlap(found.box, each.box), i) for i, each in enumerate(free) if each.class_id == found.class_id]
        best, at = max(near, default=(0.0, -1))
        if best >= MATCHING_IOU:
            matched += 1
            del free[at]
    return 2 * matched / (len(reference) + len(other))


def overlap(a: Box, b: Box) -> float:
    """Intersection over union, 0..1."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    common = max(width, 0.0) * max(height, 0.0)
    together = _area(a) + _area(b) - common
    return common / together if together > 0 else 0.0


def _area(box: Box) -> float:
    return max(box.right - box.left, 0.0) * max(box.bottom - box.top, 0.0)


def masks_agree(reference: Mask, other: Mask) -> float:
    """Mean over the classes that occur in either of intersection over union of their pixels."""
    a, b = reference.class_ids, other.class_ids
    if a.shape != b.shape:
        return 0.0
    same = np.bincount(a[a == b], minlength=256)
    together = np.bincount(a.reshape(-1), minlength=256) + np.bincount(b.reshape(-1), minlength=256) - same
    occur = together > 0
    return float(np.mean(same[occur] / together[occur]))


def keypoints_agree(reference: tuple[Keypoint, ...], other: tuple[Keypoint, ...]) -> float:
    """Share of the points that `reference` is sure of that `other` has near; 1 where it is sure of none."""
    if len(reference) != len(other):
        return 0.0
    pairs = [(a, b) for a, b in zip(reference, other, strict=True) if a.score >= SURE]
    if not pairs:
        return 1.0
    xs, ys = [a.x for a, _ in pairs], [a.y for a, _ in pairs]
    reach = NEAR * float(np.hypot(max(xs) - min(xs), max(ys) - min(ys)))
    return float(np.mean([np.hypot(a.x - b.x, a.y - b.y) <= reach for a, b in pairs]))


def decided_alike(reference: Result, other: Result) -> float | None:
    """Agreement of two results of one kind by what they decide; None where the kind only has numbers (raw, an embedding
    without a gallery, an anomaly score without a threshold)."""
    kind = reference.kind
    if kind == "classification":
        ids = [[each.class_id for each in result.top[:1]] for result in (reference, other)]
        return float(ids[0] == ids[1])
    if kind == "detection":
        return detections_agree(reference.detections, other.detections)
    if reference.mask is not None and other.mask is not None:
        return masks_agree(reference.mask, other.mask)
    if kind == "keypoints":
        return keypoints_agree(reference.keypoints, other.keypoints)
    if reference.anomaly is not None and other.anomaly is not None and reference.anomaly.is_anomalous is not None:
        return float(reference.anomaly.is_anomalous == other.anomaly.is_anomalous)
    if kind == "embedding" and (reference.top or other.top):
        return float(reference.label == other.label)
    return None
