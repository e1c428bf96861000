"""Models, data and contracts with one deliberate fault each, healthy ones beside them, and what converters make of it.

The faults are those of the issue's list; each has a name in the literature or in a tracker. A model here computes in
float what it should: what is at stake is what quantization, or a wrong contract, makes of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.affine import dequantize, quantize
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.errors import EdgeloopError
from edgeloop.graph import Graph, Quantization, make_options
from edgeloop.preprocess import compile_input
from edgeloop.runtime import open_session
from edgeloop_converters.demo.digits import load_split
from support.tiny_models import NONE, TinyBuilder

Array = npt.NDArray[Any]

HARM = 0.02
"""A model that is shipped with more than two points less than the healthy one has lost something."""

DIGITS = Contract(
    (InputSpec("image", "image", (8, 8), "gray", None, (0.0,), (255.0,)),),
    OutputSpec("classification", tuple("0123456789")),
)


@dataclass(frozen=True)
class Samples:
    """x: raw samples as a user has them [n, ...]; y: class ids [n], or None."""

    x: Array
    y: Array | None = None


@dataclass(frozen=True)
class Case:
    """One row of the table.

    model: float .tflite. contract: the one that the user gives, which may be wrong. calibration, evaluation: what the
    user gives. truth: labelled samples that judge what is shipped. attainable: accuracy of the healthy float model on
    them. flaw: what is wrong with the file beside accuracy ("": nothing). says: what edgeloop's alarm has to name.
    more: fields of the recipe.
    """

    key: str
    fault: str
    model: bytes
    contract: Contract
    calibration: Samples
    evaluation: Samples
    truth: Samples
    attainable: float
    flaw: Callable[[bytes], str] = lambda _: ""
    says: str = ""
    healthy: bool = False
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """verdict: "unharmed", "silent", "caught", "repaired", "false alarm", "fine". shipped: accuracy; None: no file."""

    verdict: str
    shipped: float | None
    said: str = ""


def judge(case: Case, shipped: bytes | None, alarms: Sequence[str], *, repaired: str = "") -> Outcome:
    """What a tool made of a case. shipped: None where it gave no file. alarms: what it warned of. repaired: what it
    changed so that nothing is lost, "" where nothing had to be."""
    accuracy = None if shipped is None else accuracy_of(shipped, case.contract, case.truth)
    said = "; ".join(alarms)
    if case.healthy:
        lost = accuracy is None or accuracy < case.attainable - HARM
        return Outcome("false alarm" if alarms else "silent" if lost else "fine", accuracy, said)
    if shipped is None:
        return Outcome("caught", None, said)
    flaw = case.flaw(shipped)
    assert accuracy is not None
    harmed = bool(flaw) or accuracy < case.attainable - HARM
    named = bool(alarms) and re.search(case.says, said) is not None
    if repaired and not harmed:
        return Outcome("repaired", accuracy, repaired)
    if named:
        return Outcome("caught", accuracy, said)
    return Outcome("silent" if harmed else "unharmed", accuracy, said or flaw)


def run_edgeloop(case: Case, folder: Any) -> Outcome:
    """`edgeloop convert` with the case's model, data and contract, and a goal of at most 2 points."""
    from edgeloop_converters.goals import Goals
    from edgeloop_converters.pipeline import convert
    from edgeloop_converters.recipe import Recipe

    folder.mkdir(parents=True, exist_ok=True)
    model, data, evaluation = folder / "model.tflite", folder / "data.npz", folder / "eval.npz"
    model.write_bytes(case.model)
    _save(data, case.calibration)
    _save(evaluation, case.evaluation)
    goals = Goals(max_drop=HARM) if case.evaluation.y is not None else Goals(min_agreement=0.9)
    recipe = Recipe(
        str(model), "generic-x86-64", str(data), str(evaluation), case.contract, goals=goals, name="sabotage",
    )  # fmt: skip
    try:
        result = convert(replace(recipe, **case.more), cache=False)
    except EdgeloopError as error:
        return judge(case, None, [error.message])
    alarms = [*result.warnings, *(f"exit 1: {reason}" for reason in result.gate.reasons)]
    shipped = result.variants[0].model if result.gate.passed else None
    return judge(case, shipped, alarms, repaired=_repairs(case, result))


def _repairs(case: Case, result: Any) -> str:
    """Rungs of the ladder that were kept; passes of the refinement that were, where plain min/max loses accuracy."""
    if case.healthy:
        return ""
    kept = [r for r in result.report["repairs"] if r["accepted"]]
    if kept:
        moved = sorted({str(op["name"]) for r in kept for op in r.get("ops", [])})
        return ", ".join(dict.fromkeys(str(r["name"]) for r in kept)) + (f" ({', '.join(moved)})" if moved else "")
    passes = [str(r["name"]) for r in result.report["refinement"] if r["accepted"] and r["name"] != "decisions"]
    return ", ".join(passes) if passes and _plain_loses(case) else ""


def _plain_loses(case: Case) -> bool:
    from edgeloop_converters.calibration import calibrate
    from edgeloop_converters.quantization import quantize_int8

    try:
        plain = quantize_int8(case.model, calibrate(case.model, float_inputs(case), method="min-max")).tflite
        return accuracy_of(plain, case.contract, case.truth) < case.attainable - HARM
    except EdgeloopError:  # no file, or one that the runtime refuses
        return True


def _save(path: Any, samples: Samples) -> None:
    np.savez(path, x=samples.x, **({} if samples.y is None else {"y": samples.y}))


def accuracy_of(model: bytes, contract: Contract, truth: Samples) -> float:
    """Share of samples right, through the contract and the file's own input scale."""
    assert truth.y is not None
    return float((answers(model, contract, truth.x) == truth.y).mean())


def answers(model: bytes, contract: Contract, x: Array) -> Array:
    """Best class of every sample."""
    with open_session(model) as session:
        prepare = compile_input(contract.inputs[0], session.inputs[0])
        found = []
        for sample in x:
            session.set_input(0, prepare(as_frame(sample)))
            session.invoke()
            found.append(int(np.asarray(session.output(0)).argmax()))
    return np.asarray(found)


def float_inputs(case: Case) -> list[Array]:
    """The calibration samples as the float model takes them, [1, ...] each: what the peers are fed."""
    with open_session(case.model) as session:
        prepare = compile_input(case.contract.inputs[0], session.inputs[0])
        return [np.array(prepare(as_frame(sample))) for sample in case.calibration.x]


def as_frame(sample: Array) -> Array:
    """Pictures in an .npz are RGB, frames that are prepared are BGR as OpenCV gives them."""
    is_color = sample.dtype == np.uint8 and sample.ndim == 3 and sample.shape[-1] == 3
    return np.ascontiguousarray(sample[..., ::-1]) if is_color else sample


def real_output(model: bytes, x: Array) -> Array:
    """Output of a float or int8 file for a float input, as real numbers."""
    with open_session(model) as session:
        info = session.inputs[0]
        session.set_input(0, quantize(x, info.affine, info.dtype))
        session.invoke()
        return dequantize(session.output(0), session.outputs[0].affine)


# ---- faults put into a model -------------------------------------------------------------------------------------


def amplify_channel(graph: Graph, first: int, second: int, channel: int, factor: float) -> None:
    """Ops `first` -> `second` are convolutions with a ReLU (or nothing) between: one channel of the tensor between them
    becomes `factor` times larger, and the second's weights for it as much smaller. The function stays the same."""
    main = graph.main
    for tensor in (main.tensors[main.ops[first].inputs[i]] for i in (1, 2)):
        assert tensor.data is not None
        tensor.data = tensor.data.copy()
        tensor.data[channel] *= np.float32(factor)
    weights = main.tensors[main.ops[second].inputs[1]]
    assert weights.data is not None
    weights.data = weights.data.copy()
    weights.data[..., channel] /= np.float32(factor)


def mask_class(graph: Graph, value: float) -> None:
    """One class more, which is masked out by a bias of `value` before the softmax."""
    main = graph.main
    dense, softmax = main.ops[-2], main.ops[-1]
    weights, bias = main.tensors[dense.inputs[1]], main.tensors[dense.inputs[2]]
    assert weights.data is not None and bias.data is not None
    classes = weights.shape[0] + 1
    weights.data = np.concatenate([weights.data, np.zeros((1, weights.shape[1]), np.float32)])
    bias.data = np.concatenate([bias.data, np.array([value], np.float32)])
    weights.shape, bias.shape = weights.data.shape, bias.data.shape
    for index in (dense.outputs[0], softmax.outputs[0]):
        main.tensors[index].shape = (1, classes)


def temper(graph: Graph, factor: float) -> None:
    """Logits times `factor`: below 1 the softmax becomes flat, above it saturates; the order of classes stays."""
    dense = graph.main.ops[-2]
    for index in dense.inputs[1:3]:
        tensor = graph.main.tensors[index]
        assert tensor.data is not None
        tensor.data = tensor.data * np.float32(factor)


def hybrid_weights(graph: Graph) -> None:
    """Weights of convolutions and dense layers as int8 codes with one scale, computed in float ("dynamic range")."""
    for op in graph.main.ops:
        if op.name in ("CONV_2D", "FULLY_CONNECTED"):
            tensor = graph.main.tensors[op.inputs[1]]
            assert tensor.data is not None
            scale = np.float32(np.abs(tensor.data).max() / 127)
            tensor.data = np.round(tensor.data / scale).astype(np.int8)
            tensor.dtype = "int8"
            tensor.quantization = Quantization(np.array([scale], np.float32), np.zeros(1, np.int64), 0)


# ---- small models with a head that is really fitted ---------------------------------------------------------------


def fitted_net(activation: str, *, loud: float = 1.0, slope: float = 0.25, odd_slope: float | None = None) -> bytes:
    """Two random convolutions with `activation` ("SILU", "PRELU", "ELU", "RELU"), a dense head fitted to digits.

    loud: how much larger the first channel of each convolution is than the others. slope: of PReLU; odd_slope: of a
    channel that is never used.
    """
    b = TinyBuilder(7)
    x = b.input("image", (1, 8, 8, 1))
    for stage, (filters, stride) in enumerate(((16, 1), (24, 2))):
        x = b.conv(x, filters, stride=stride, activation=NONE)
        weights, bias = (b.sub.tensors[i] for i in b.sub.ops[-1].inputs[1:3])
        assert weights.data is not None and bias.data is not None
        weights.data[0] *= np.float32(loud)
        if odd_slope is not None:
            weights.data[1], bias.data[1] = 0, -1e-3
        x = _activated(b, x, activation, stage, slope, odd_slope)
    features = b.op("RESHAPE", [x, b.constant("flat", np.array([1, 384], np.int32))], (1, 384))
    return _with_head(b, features)


def _activated(b: TinyBuilder, x: int, kind: str, stage: int, slope: float, odd_slope: float | None) -> int:
    if kind == "SILU":
        gate = b.op("LOGISTIC", [x], b.shape(x))
        return b.op("MUL", [x, gate], b.shape(x), make_options("MulOptions", fusedActivationFunction=NONE))
    if kind == "PRELU":
        slopes = np.full((1, 1, b.shape(x)[-1]), slope, np.float32)
        if odd_slope is not None:
            slopes[..., 1] = odd_slope
        return b.op("PRELU", [x, b.constant(f"slope_{stage}", slopes)], b.shape(x))
    return b.op(kind, [x], b.shape(x))


def _with_head(b: TinyBuilder, features: int) -> bytes:
    """The head by ridge regression on one-hot labels, made sharp enough for a softmax."""
    body = b.graph.copy()
    body.main.outputs = [features]
    body.ensure_signature()
    split = load_split()
    with open_session(body.write()) as session:
        rows = np.stack([session.run((x / 255).astype(np.float32)[None, ..., None])[0][0] for x in split.train_images])
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    spread = np.maximum(spread, 0.01 * np.median(spread))  # constant features stay without a say
    x = ((rows - mean) / spread).astype(np.float64)
    wanted = np.eye(10)[split.train_labels] - 0.1
    fitted = 12.0 * np.linalg.solve(x.T @ x + 30.0 * np.eye(x.shape[1]), x.T @ wanted) / spread[:, None]
    weights = b.constant("head/weights", np.ascontiguousarray(fitted.T, np.float32))
    bias = b.constant("head/bias", (-mean @ fitted).astype(np.float32))
    options = make_options("FullyConnectedOptions", fusedActivationFunction=NONE)
    x = b.op("FULLY_CONNECTED", [features, weights, bias], (1, 10), options)
    return b.finish(b.softmax(x)).write()


# ---- what may be wrong with a file beside its accuracy --------------------------------------------------------------


def float_layers(model: bytes) -> str:
    """Names of ops that compute in float."""
    from edgeloop_converters.quantization import float_ops

    left = float_ops(Graph.read(model))
    return f"{', '.join(sorted(set(left)))} in float" if left else ""


def sixteen_bit(model: bytes) -> str:
    """Whether activations are 16 bit wide, for which there are no fast kernels."""
    return "16-bit activations" if any(t.dtype == "int16" for t in Graph.read(model).main.tensors) else ""


def subset(samples: Samples, chosen: Array) -> Samples:
    return Samples(samples.x[chosen], None if samples.y is None else samples.y[chosen])


# ---- the cases on digits: small, and without TensorFlow -------------------------------------------------------------


def digits_cases(float_model: bytes) -> dict[str, Callable[[], Case]]:
    """By name, each made when it is called for. float_model: the packaged digits model."""
    split = load_split()
    calibration = Samples(split.train_images[:200], split.train_labels[:200])
    evaluation = Samples(split.held_out_images, split.held_out_labels)

    def case(fault: str, model: bytes, **more: Any) -> Case:
        own = {"contract": DIGITS, "calibration": calibration, "evaluation": evaluation, **more}
        attainable = own.pop("attainable", None)
        if attainable is None:
            attainable = accuracy_of(model, DIGITS, evaluation)
        return Case("", fault, model, truth=evaluation, attainable=attainable, **own)

    def changed(change: Callable[[Graph], None]) -> bytes:
        graph = Graph.read(float_model)
        graph.ensure_signature()
        change(graph)
        return graph.write()

    plain = changed(lambda _: None)
    wrong = replace(DIGITS, inputs=(replace(DIGITS.inputs[0], std=(1.0,)),))
    ones = np.flatnonzero(split.train_labels == 1)[:100]
    few = replace_y(subset(calibration, np.arange(3)))
    masked = replace(DIGITS, output=OutputSpec("classification", (*"0123456789", "none")))
    made: dict[str, Callable[[], Case]] = {
        "outlier channel": lambda: case(
            "one channel 1,000 times louder than the others", changed(lambda g: amplify_channel(g, 0, 1, 3, 1000.0))
        ),
        "wrong mean and std": lambda: case(
            "pixels 0..255 into a model for 0..1", fitted_net("SILU"), contract=wrong, says="contract|guess"
        ),
        "SiLU collapse": lambda: case("one loud channel before a SiLU", fitted_net("SILU", loud=300.0)),
        "PReLU collapse": lambda: case("one unused channel with a slope of 100", fitted_net("PRELU", odd_slope=100.0)),
        "masked softmax": lambda: case(
            "a class masked by -10,000 before the softmax",
            changed(lambda g: mask_class(g, -1e4)),
            contract=masked,
            says="softmax|drops",
        ),
        "flat softmax": lambda: case(
            "logits 1/1000 of the usual: all classes near 1/10", changed(lambda g: temper(g, 1e-3))
        ),
        "float layers": lambda: case(
            "ELU has no int8 kernel", fitted_net("ELU"), flaw=float_layers, says="stayed float"
        ),
        "hybrid": lambda: case(
            "a 'float' file whose weights are int8 codes",
            changed(hybrid_weights),
            says="only looks float",
            flaw=lambda _: "weights were int8 before",
        ),
        "slow scheme": lambda: case(
            "a16w8 on XNNPACK",
            plain,
            flaw=sixteen_bit,
            says="16-bit activations",
            more={"passes": scheme_passes("a16w8")},
        ),
        "too few": lambda: case("3 samples to calibrate with", plain, calibration=few, says="only 3 samples"),
        "single class": lambda: case(
            "100 samples of one class",
            plain,
            calibration=Samples(split.train_images[ones], split.train_labels[ones]),
            says="of one class",
        ),
        "healthy": lambda: case("digits, right contract", plain, healthy=True),
        "healthy SiLU": lambda: case("the SiLU net without the loud channel", fitted_net("SILU"), healthy=True),
        "healthy, no labels": lambda: case(
            "calibration without labels", plain, healthy=True, calibration=replace_y(calibration)
        ),
    }

    def named(key: str) -> Callable[[], Case]:
        return lambda: replace(made[key](), key=key)

    return {key: named(key) for key in made}


def replace_y(samples: Samples) -> Samples:
    return Samples(samples.x, None)


def scheme_passes(scheme: str, method: str = "") -> Any:
    from edgeloop_converters.recipe_steps import plan_passes

    return plan_passes(scheme, "aeq", "default", method=method)
