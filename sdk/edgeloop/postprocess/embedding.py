"""A vector, and what known vectors it is nearest to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeloop.affine import dequantize
from edgeloop.contract import OutputSpec
from edgeloop.decoding import EmbeddingSettings
from edgeloop.errors import ConfigError
from edgeloop.postprocess.decoding import NOTHING_SEEN, Array, Decoder, ModelOutput, Seen, other_values
from edgeloop.postprocess.results import ClassScore, Result

_TINY = 1e-12


def embedding(spec: OutputSpec, outputs: Sequence[ModelOutput]) -> Decoder:
    """`values`: the vector, float32 [size], then the other outputs. `top`: the names of the gallery with the highest
    cosine similarity, each once; class ids count the gallery's names in the order of their first rows."""
    settings, output, index = spec.settings, outputs[spec.index], spec.index
    assert isinstance(settings, EmbeddingSettings)
    size, affine = int(np.prod(output.shape)), output.affine
    others = other_values(outputs, (index,))
    if not settings.gallery:
        return lambda raw, _seen=NOTHING_SEEN: Result(
            "embedding", values=(dequantize(raw[index], affine).reshape(-1), *others(raw))
        )
    gallery = np.asarray(settings.gallery, np.float32)
    if gallery.shape[1] != size:
        raise ConfigError(
            f"the gallery's vectors have {gallery.shape[1]} numbers and the model's output {size}",
            hint="make the gallery with this model",
        )
    if len(spec.labels) != len(gallery):
        raise ConfigError(f"the gallery has {len(gallery)} vectors and the contract {len(spec.labels)} labels for them")
    names = list(dict.fromkeys(spec.labels))
    ids = np.asarray([names.index(label) for label in spec.labels])
    unit = _unit(gallery)
    k, threshold = min(settings.top_k, len(names)), settings.threshold

    def decode(raw: Sequence[Array], _seen: Seen = NOTHING_SEEN) -> Result:
        vector = dequantize(raw[index], affine).reshape(-1)
        best = np.full(len(names), -np.inf, np.float32)
        with np.errstate(all="ignore"):  # a vector of NaN is near to nobody
            np.fmax.at(best, ids, unit @ _unit(vector))
        order = np.argsort(-best, kind="stable")[:k].tolist()
        top = tuple([ClassScore(i, names[i], float(best[i])) for i in order if best[i] >= threshold])
        return Result("embedding", top, (vector, *others(raw)))

    return decode


def _unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    norms: npt.NDArray[np.float32] = np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), _TINY)
    return rows / norms
