"""Keypoints of one body, in pixels of the source picture."""

from __future__ import annotations

from collections.abc import Sequence

from edgeloop.affine import dequantize
from edgeloop.contract import OutputSpec
from edgeloop.decoding import KeypointsSettings
from edgeloop.errors import ConfigError
from edgeloop.postprocess.decoding import NOTHING_SEEN, Array, Decoder, ModelOutput, Seen, misfit, other_values
from edgeloop.postprocess.results import Keypoint, Result

BODY = (
    "nose", "left eye", "right eye", "left ear", "right ear", "left shoulder", "right shoulder", "left elbow",
    "right elbow", "left wrist", "right wrist", "left hip", "right hip", "left knee", "right knee", "left ankle",
    "right ankle",
)  # fmt: skip
"""The 17 of COCO (Lin et al. 2014, "Microsoft COCO: Common Objects in Context"), as MoveNet and PoseNet give them."""


def keypoints(spec: OutputSpec, outputs: Sequence[ModelOutput]) -> Decoder:
    """Of an output [.., n, 3] (two coordinates and a score) or [.., n, 2] (then every score is 1)."""
    settings, output = spec.settings, outputs[spec.index]
    assert isinstance(settings, KeypointsSettings)
    if len(output.shape) < 2 or output.shape[-1] not in (2, 3) or any(n != 1 for n in output.shape[:-2]):
        raise misfit("keypoints", output, "one list [1, n, 3] of two coordinates and a score")
    count, columns = output.shape[-2:]
    if spec.labels and len(spec.labels) != count:
        raise ConfigError(f"the contract has {len(spec.labels)} labels but the model has {count} keypoints")
    names = spec.labels or (BODY if count == len(BODY) else ("",) * count)
    y_at, x_at = (0, 1) if settings.point_format == "yx" else (1, 0)
    (y_unit, x_unit), affine, index = settings.extent, output.affine, spec.index
    others = other_values(outputs, (index,))

    def decode(raw: Sequence[Array], seen: Seen = NOTHING_SEEN) -> Result:
        rows = dequantize(raw[index], affine).reshape(count, columns).tolist()
        place = seen.placement
        y_scale, x_scale = place.y_scale / y_unit, place.x_scale / x_unit
        points = tuple(
            [
                Keypoint(
                    name,
                    row[x_at] * x_scale + place.x_offset,
                    row[y_at] * y_scale + place.y_offset,
                    row[2] if columns == 3 else 1.0,
                )
                for name, row in zip(names, rows, strict=True)
            ]
        )
        return Result("keypoints", values=others(raw), keypoints=points)

    return decode
