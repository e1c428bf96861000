"""How unusual a sample is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgeloop.affine import dequantize
from edgeloop.contract import OutputSpec
from edgeloop.decoding import AnomalySettings
from edgeloop.errors import ConfigError
from edgeloop.postprocess.decoding import NOTHING_SEEN, Array, Decoder, ModelOutput, Seen, misfit, other_values
from edgeloop.postprocess.results import Anomaly, Result


def anomaly(spec: OutputSpec, outputs: Sequence[ModelOutput]) -> Decoder:
    """Of an output with one number, or of an autoencoder: the mean squared error between its input and its output.
    A score of NaN is anomalous.
    """
    settings, output, index = spec.settings, outputs[spec.index], spec.index
    assert isinstance(settings, AnomalySettings)
    is_output = settings.anomaly_score == "output"
    if is_output and int(np.prod(output.shape)) != 1:
        raise misfit("anomaly", output, 'one number (or set anomaly_score = "reconstruction" for an autoencoder)')
    affine, threshold = output.affine, settings.threshold
    others = other_values(outputs, (index,))
    score_of: Callable[[Array, Seen], float]

    def of_output(values: Array, _seen: Seen) -> float:
        return float(values.reshape(-1)[0])

    def of_reconstruction(values: Array, seen: Seen) -> float:
        if not seen.inputs:
            return float("nan")
        wanted = seen.inputs[0].reshape(-1)
        if wanted.size != values.size:
            raise ConfigError(f"an autoencoder gives back its input: {wanted.size} numbers in, {values.size} out")
        with np.errstate(all="ignore"):
            return float(np.mean(np.square(values.reshape(-1) - wanted, dtype=np.float64)))

    score_of = of_output if is_output else of_reconstruction

    def decode(raw: Sequence[Array], seen: Seen = NOTHING_SEEN) -> Result:
        score = score_of(dequantize(raw[index], affine), seen)
        return Result(
            "anomaly",
            values=others(raw),
            anomaly=Anomaly(score, threshold, None if threshold is None else not score <= threshold),
        )

    return decode
