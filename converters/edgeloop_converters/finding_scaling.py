"""The scaling of a model's input: by labelled samples, else by what the model itself tells; and what the labels say of
the output that is decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgeloop.contract import Contract, InputSpec
from edgeloop.graph import Graph
from edgeloop.runtime import Session, open_session
from edgeloop_converters.data import IMAGE, TENSOR, Dataset, pick
from edgeloop_converters.evidence import input_evidence
from edgeloop_converters.io_names import output_names, vector_length
from edgeloop_converters.scalings import Choice, candidates, choose_scaling

_PEEK = 16


def find_scaling(
    model: bytes,
    graph: Graph,
    contract: Contract,
    data: Dataset,
    color: str | None,
    seed: int,
    notes: list[str],
    warnings: list[str],
) -> tuple[InputSpec, Dataset, dict[str, float]]:
    """(input with scaling, data with class ids as the model counts them, accuracy by scaling).

    color: what the user says of it, None: to be found. notes, warnings: taken further.
    """
    spec = contract.inputs[0]
    colors: Sequence[str] = ()
    if spec.kind == IMAGE:
        free = color is None and spec.color != "gray"
        colors = ("rgb", "bgr") if free else (spec.color,)
    options = candidates(spec, colors) if colors or _looks_like_pixels(data) else [(spec, "values as they are")]
    with open_session(model) as session:
        choice = choose_scaling(session, data, options, output=contract.output.index, seed=seed)
        if choice is None:
            return _without_labels(graph, spec, data, notes, warnings)
        if choice.is_chance:
            warnings += _other_output(session, graph, data, options, choice, contract.output.index, seed)
    scores = {t.full_title: t.accuracy for t in choice.trials}
    best = choice.best
    if choice.is_chance:
        warnings.append(_no_better_than_guessing(choice, data))
    if len(options) > 1:
        others = [f"{t.full_title}: {t.accuracy:.1%}" for t in choice.trials if t is not best][:3]
        notes.append(
            f"input scaling: {best.full_title}: {best.accuracy:.1%} of {choice.samples} labelled samples right with it"
            + ("" if choice.clear else ", though it is not far ahead")
            + (f" ({'; '.join(others)})" if others else "")
        )
    elif best.offset:
        notes.append(f"class ids + 1: the model has {choice.classes} outputs, a background class in front")
    if len(colors) > 1 and best.spec.color == "bgr" and data.files is None:
        warnings.append(_which_is_swapped(data))
    return best.spec, shifted(data, best.offset), scores


def _other_output(
    session: Session,
    graph: Graph,
    data: Dataset,
    options: Sequence[tuple[InputSpec, str]],
    mine: Choice,
    given: int,
    seed: int,
) -> list[str]:
    """Whether the labels are those of another output, where the decoded one does no better than guessing."""
    names = output_names(graph)
    others = [i for i in range(len(names)) if i != given and vector_length(graph, i) == mine.classes]
    choices = {i: choose_scaling(session, data, options, output=i, seed=seed) for i in others}
    found = {i: choice for i, choice in choices.items() if choice is not None and not choice.is_chance}
    if not found:
        return []
    best = max(found, key=lambda i: found[i].best.accuracy)
    right = f"{found[best].best.accuracy:.0%} of {found[best].samples} labelled samples right"
    return [
        f"the labels are those of another output: '{names[best]}' gets {right}, '{names[given]}', which is decoded, "
        f'{mine.best.accuracy:.0%}; say [output] name = "{names[best]}" in a contract file (--contract)'
    ]


def _which_is_swapped(data: Dataset) -> str:
    """Arrays do not tell which order they have, as picture files do; a device's camera gives real colors."""
    return (
        f"bgr fits better than rgb, but {data.source} holds arrays: if these came from cv2.imread they are BGR "
        "themselves, the model takes rgb, and a device would swap the colors of real pictures; say --color bgr if the "
        "model was trained on BGR, else store the arrays as RGB"
    )


def _no_better_than_guessing(choice: Choice, data: Dataset) -> str:
    text = (
        f"the model gets {choice.best.accuracy:.0%} of {choice.samples} samples right, no better than guessing: check "
        "the scaling (--mean, --std, --color) and that the labels are in the model's class order"
    )
    if data.kind == TENSOR and data.sample(0).dtype.kind in "iu":
        text += "; for data stored as quantized codes, --mean is their zero point and --std is 1 / scale"
    return text


def _without_labels(
    graph: Graph, spec: InputSpec, data: Dataset, notes: list[str], warnings: list[str]
) -> tuple[InputSpec, Dataset, dict[str, float]]:
    evidence = input_evidence(graph)
    if evidence is not None and (spec.kind == IMAGE or _looks_like_pixels(data)):
        found = replace(spec, mean=(evidence.mean,), std=(evidence.std,))
        notes.append(f"input scaling: mean {evidence.mean:g}, std {evidence.std:g}, because {evidence.why}")
        return found, data, {}
    if spec.kind == IMAGE:
        order = "" if spec.color == "gray" else f" in {spec.color} order"
        warnings.append(
            f"input scaling is a guess: raw pixels 0..255{order}, because nothing in the model or the data tells; say "
            "--mean and --std (or give labelled data) if the model was trained otherwise"
        )
    return spec, data, {}


def _looks_like_pixels(data: Dataset) -> bool:
    """Tensors [H, W, C] of whole numbers 0..255 with more than a few gray levels."""
    if data.kind != TENSOR:
        return False
    sample = data.sample(0)
    if sample.ndim not in (2, 3) or (sample.ndim == 3 and sample.shape[-1] not in (1, 3)):
        return False
    values = np.stack([data.sample(int(i)) for i in pick(data, _PEEK)])
    whole = values.dtype.kind in "iu" or bool((values == np.round(values)).all())
    return whole and float(values.min()) >= 0 and 16 < float(values.max()) <= 255


def shifted(data: Dataset, offset: int) -> Dataset:
    if not offset or data.labels is None:
        return data
    return replace(data, labels=data.labels + offset)
