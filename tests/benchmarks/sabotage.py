"""The sabotage table: one deliberate fault each, and what TFLiteConverter, ai-edge-quantizer and edgeloop make of it.

Every tool gets the same float model, calibration samples and contract; what it ships is judged on 1,000 samples (KWS:
the 400 that do not calibrate). The peers are fed through the contract that the user gave, as their users' scripts do.

    .venv/bin/python tests/benchmarks/sabotage.py -o docs/sabotage.md
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from _timing import REPOSITORY, host, shared_data, unpack_cifar

sys.path.insert(0, str(REPOSITORY / "tests"))

from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.errors import RefusedError
from edgeloop.graph import Graph
from edgeloop.runtime import open_session
from edgeloop_converters.calibration import Ranges
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.quantization import quantize_int8
from support.sabotage import (
    Case,
    Outcome,
    Samples,
    accuracy_of,
    amplify_channel,
    digits_cases,
    float_inputs,
    judge,
    mask_class,
    replace_y,
    run_edgeloop,
    scheme_passes,
    sixteen_bit,
    subset,
)

Tool = Callable[[Case], bytes]
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="write the page there")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    rows: list[tuple[Case, dict[str, Outcome]]] = []
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["EDGELOOP_HOME"] = f"{scratch}/home"
        for case in [*real_cases(Path(scratch)), *(make() for make in digits_cases(digits_model()).values())]:
            if args.only not in case.key:
                continue
            outcomes = {name: with_peer(case, tool) for name, tool in PEERS.items()}
            outcomes["edgeloop"] = run_edgeloop(case, Path(scratch) / f"case{len(rows)}")
            rows.append((case, outcomes))
            if args.output:
                args.output.write_text(page(rows))
            shown = "  ".join(f"{name}: {text(o)}" for name, o in outcomes.items())
            print(
                f"{case.key:32} float {case.attainable:.1%}  {shown}\n{'':34}{outcomes['edgeloop'].said[:240]}",
                flush=True,
            )


def digits_model() -> bytes:
    return (resources.files("edgeloop_converters.demo") / "digits.tflite").read_bytes()


def text(outcome: Outcome) -> str:
    broken = "a file that does not load" if outcome.verdict == "silent" else "no file"
    shipped = broken if outcome.shipped is None else f"{outcome.shipped:.1%}"
    return f"{outcome.verdict}, {shipped}"


# ---- the peers -----------------------------------------------------------------------------------------------------


def with_peer(case: Case, tool: Tool) -> Outcome:
    """What it raises is "caught": it gives no file."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            made = tool(case)
        except Exception as error:  # the peers raise whatever they raise
            lines = [line for line in str(error).splitlines() if line.strip()]
            return judge(case, None, [f"{type(error).__name__}: {lines[0] if lines else ''}"[:160]])
    try:
        return judge(case, made, [])
    except RefusedError:
        return Outcome("silent", None, "a file that the runtime refuses")


def tflite_converter(case: Case) -> bytes:
    """The very calls of TFLiteConverter after its float file: calibrate, then quantize (ops without a kernel stay
    float, as is its default); 16x8 as `TFLITE_BUILTINS_INT8` with 16-bit activations."""
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    calibrator = Calibrator(case.model)
    samples = float_inputs(case)
    if is_wide(case):
        made = calibrator.calibrate_and_quantize(
            lambda: ([x] for x in samples), tf.float32, tf.float32, True, tf.int16
        )  # fmt: skip
        return bytes(made)
    calibrated = calibrator.calibrate(lambda: ([x] for x in samples))
    return bytes(mlir_quantize(calibrated, input_data_type=tf.int8, output_data_type=tf.int8))


def ai_edge_quantizer(case: Case) -> bytes:
    """Its static recipe with its own calibration; `--calibration entropy` stands for ranges by textbook KL divergence,
    which it has not, put in from outside."""
    from ai_edge_quantizer import quantizer, recipe

    chosen = recipe.static_wi8_ai16() if is_wide(case) else recipe.static_wi8_ai8()
    packer = quantizer.Quantizer(case.model, chosen)
    if "KL" in case.key:
        return quantize_int8(case.model, textbook_kl(case)).tflite
    signature = Graph.read(case.model).signatures[0]
    name = next(iter(signature.inputs))
    measured = packer.calibrate({signature.key: [{name: x} for x in float_inputs(case)]})
    return bytes(packer.quantize(measured, enable_progress_bar=False, enable_progress_report=False).quantized_model)


PEERS: dict[str, Tool] = {"TFLiteConverter": tflite_converter, "ai-edge-quantizer": ai_edge_quantizer}


def is_wide(case: Case) -> bool:
    return case.flaw is sixteen_bit


def textbook_kl(case: Case) -> Ranges:
    """Thresholds as in the well-known slides on 8-bit inference: 2,048 bins of |x|, the threshold from 128 bins on
    whose clipped distribution is nearest to its own 128-level version. No guard against what that does to a sparse
    tensor."""
    counts: dict[str, Any] = {}
    highest: dict[str, tuple[float, float]] = {}
    constants = {i for i, t in enumerate(Graph.read(case.model).main.tensors) if t.is_constant}
    with open_session(case.model, delegate="cpu", keep_tensors=True) as session:
        for last in (False, True):
            for x in float_inputs(case):
                session.set_input(0, x)
                session.invoke()
                for info in session.tensors():
                    if info.dtype != np.float32 or info.index in constants:
                        continue
                    values = session.tensor(info.index)
                    low, high = highest.get(info.name, (0.0, 0.0))
                    if not last:
                        highest[info.name] = (min(low, float(values.min())), max(high, float(values.max())))
                        continue
                    top = max(-low, high, 1e-9)
                    found = np.histogram(np.abs(values), 2048, (0, top))[0]
                    counts[info.name] = counts.get(info.name, 0) + found
    ranges = {}
    for name, (low, high) in highest.items():
        threshold = _threshold(counts[name]) / 2048 * max(-low, high, 1e-9)
        ranges[name] = (max(low, -threshold), min(high, threshold))
    return Ranges(ranges, len(case.calibration.x), "entropy")


def _threshold(counts: Any, levels: int = 128) -> int:
    best, chosen = np.inf, len(counts)
    for i in range(levels, len(counts) + 1, 16):
        p = counts[:i].astype(np.float64)
        p[-1] += counts[i:].sum()
        q = np.zeros(i)
        for part in np.array_split(np.arange(i), levels):
            used = part[counts[part] > 0]
            if len(used):
                q[used] = counts[part].sum() / len(used)
        both = (p > 0) & (q > 0)
        p, q = p / p.sum(), q / max(q.sum(), 1)
        divergence = float((p[both] * np.log(p[both] / q[both])).sum()) if both.any() else np.inf
        if divergence < best:
            best, chosen = divergence, i
    return chosen


# ---- real models ---------------------------------------------------------------------------------------------------


def real_cases(scratch: Path) -> list[Case]:
    models = shared_data() / "models" / "mlperf_tiny"
    train, test = images(unpack_cifar(scratch, "train"), 20), images(unpack_cifar(scratch, "test"), 100)
    return [*resnet_cases(models, train, test), *keyword_cases(models)]


def resnet_cases(models: Path, calibration: Samples, evaluation: Samples) -> list[Case]:
    model = to_float_tflite(models / "pretrainedResnet.tflite").tflite
    right = Contract((InputSpec("image", "image", (32, 32)),), OutputSpec("classification", CIFAR))
    attainable = accuracy_of(model, right, evaluation)

    def with_input(**changes: Any) -> Contract:
        return replace(right, inputs=(replace(right.inputs[0], **changes),))

    def changed(change: Callable[[Graph], None]) -> bytes:
        graph = Graph.read(model)
        change(graph)
        return graph.write()

    def case(key: str, fault: str, made: bytes = model, contract: Contract = right, **more: Any) -> Case:
        own = {"calibration": calibration, "evaluation": evaluation, **more}
        return Case(f"ResNet8: {key}", fault, made, contract, truth=evaluation, attainable=attainable, **own)

    assert calibration.y is not None
    frogs = subset(calibration, np.flatnonzero(calibration.y == 6))
    dark_last = subset(calibration, np.argsort(-calibration.x.reshape(len(calibration.x), -1).mean(axis=1)))
    blank = replace(right, output=OutputSpec("classification", (*CIFAR, "none")))
    return [
        case("wrong mean and std", "0..1 into a model for 0..255", contract=with_input(std=(255.0,)),
             says="contract|guess|values are"),
        case("BGR for RGB", "channels swapped", contract=with_input(color="bgr"), says="another contract"),
        case("outlier channel", "one channel 1,000 times louder, the function the same",
             changed(lambda g: amplify_channel(g, 1, 2, 3, 1000.0))),
        case("moving average", "calibration samples sorted, dark ones last", calibration=dark_last),
        case("KL divergence", "ranges by KL divergence", more={"passes": scheme_passes("int8", "entropy")}),
        case("masked softmax", "a class masked by -10,000", changed(lambda g: mask_class(g, -1e4)), blank,
             says="softmax|drops"),
        case("too few", "2 samples to calibrate with", calibration=subset(calibration, np.array([3, 77])),
             says="only 2 samples"),
        case("single class", "20 samples of one class", calibration=frogs, says="of one class"),
        case("single class, no labels", "the same without labels", calibration=replace_y(frogs), says="samples"),
        case("slow scheme", "16-bit activations on XNNPACK", flaw=sixteen_bit, says="16-bit activations",
             more={"passes": scheme_passes("a16w8")}),
        case("healthy", "right contract, 200 samples", healthy=True),
        case("healthy, no labels", "judged by agreement", calibration=replace_y(calibration),
             evaluation=replace_y(evaluation), healthy=True),
    ]  # fmt: skip


def keyword_cases(models: Path) -> list[Case]:
    model = to_float_tflite(models / "kws_ref_model").tflite
    with np.load(shared_data() / "kws" / "kws01.npz") as archive:
        x, y = archive["features"][..., None], archive["labels"].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(x))
    calibration = Samples(x[order[:200]], y[order[:200]])
    evaluation = Samples(x[order[200:]], y[order[200:]])
    affine = Graph.read(models / "kws_ref_model.tflite").inputs[0].affine
    spec = InputSpec("features", "tensor", None, "rgb", (49, 10, 1), (float(affine.zero_point),), (1 / affine.scale,))
    right = Contract((spec,), OutputSpec("classification"))
    unscaled = replace(right, inputs=(replace(spec, mean=(0.0,), std=(1.0,)),))
    hybrid = (models / "kws_ref_model_float32.tflite").read_bytes()
    attainable = accuracy_of(model, right, evaluation)

    def case(key: str, fault: str, made: bytes = model, contract: Contract = right, **more: Any) -> Case:
        own = {"calibration": calibration, "evaluation": evaluation, **more}
        return Case(f"KWS: {key}", fault, made, contract, truth=evaluation, attainable=attainable, **own)

    loudness = np.abs(calibration.x.astype(np.float32) - affine.zero_point).reshape(len(calibration.x), -1).max(axis=1)
    quiet_last = subset(calibration, np.argsort(-loudness, kind="stable"))

    return [
        case("moving average", "calibration samples sorted, quiet ones last", calibration=quiet_last),
        case("wrong mean and std", "int8 codes taken as numbers", contract=unscaled, says="contract|guess|codes"),
        case("hybrid", "the 'float' file of the model's own repository: weights are int8", hybrid,
             flaw=lambda _: "weights were int8 before", says="only looks float"),
        case("healthy", "right contract, 200 samples", healthy=True),
    ]  # fmt: skip


def images(folder: Path, per_class: int) -> Samples:
    """RGB uint8 [n, 32, 32, 3], class by class."""
    import cv2

    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    paths = [(path, i) for i, c in enumerate(classes) for path in sorted(c.glob("*.jpg"))[:per_class]]
    x = np.stack([cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path, _ in paths])
    return Samples(x, np.array([i for _, i in paths]))


# ---- the page ------------------------------------------------------------------------------------------------------


def page(rows: list[tuple[Case, dict[str, Outcome]]]) -> str:
    faulty, healthy = [r for r in rows if not r[0].healthy], [r for r in rows if r[0].healthy]
    return "\n".join(
        [
            "# The sabotage table",
            "",
            "One deliberate fault each: in a model (whose float function stays what it was), in the data, or in the",
            "contract. Every tool gets the same float file, calibration samples and contract; accuracy is that of the",
            "file it ships, through that contract, on samples that none of them saw. Made by",
            "`tests/benchmarks/sabotage.py`, which says what each peer was called with; the rows on digits are also in",
            "the test suite.",
            "",
            f"{host()}; ai-edge-quantizer {version_of('ai-edge-quantizer')}, TensorFlow {version_of('tensorflow')}.",
            "",
            "- **silent**: more than 2 points lost, or a flaw in the file, without a word. **caught**: said in a",
            "  warning, or refused with exit code 1 (`no file`). **repaired**: shipped within 2 points where a plain",
            "  min/max file is not. **unharmed**: the fault does this tool no harm.",
            "- edgeloop runs with `--max-drop 2pt`. Peers have no goal to set; what they raise counts as caught.",
            "- ResNet8: 200 CIFAR-10 JPEGs calibrate, 1,000 others judge; KWS: 200 and 400; digits (rows without a",
            "  name): 200 and 597. KL divergence: TFLiteConverter has no such method, ai-edge-quantizer packs",
            "  thresholds by the textbook's, edgeloop runs `--calibration entropy`.",
            "",
            *table("fault", faulty),
            "",
            "## Healthy controls",
            "",
            "A warning here would be a false alarm.",
            "",
            *table("control", healthy),
            "",
            "## What edgeloop says",
            "",
            *[f"- **{case.key}**: {quoted(outcomes['edgeloop'])}" for case, outcomes in faulty],
            "",
        ]
    )


def table(title: str, rows: list[tuple[Case, dict[str, Outcome]]]) -> list[str]:
    lines = [f"| {title} | | float | TFLiteConverter | ai-edge-quantizer | edgeloop |", "|---|---|---|---|---|---|"]
    for case, outcomes in rows:
        cells = " | ".join(
            f"**{text(o)}**" if o.verdict in ("silent", "false alarm") else text(o) for o in outcomes.values()
        )
        lines.append(f"| {case.key} | {case.fault} | {case.attainable:.1%} | {cells} |")
    return lines


def quoted(outcome: Outcome) -> str:
    said = outcome.said.split("; exit 1")[0] if outcome.shipped is not None else outcome.said
    said = re.sub(r"\S*/(model\.tflite)", r"\1", said)
    return f"{outcome.verdict}: {said[:300]}" if said else outcome.verdict


def version_of(package: str) -> str:
    from importlib.metadata import version

    return version(package)


if __name__ == "__main__":
    main()
