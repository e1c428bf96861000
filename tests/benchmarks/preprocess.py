"""Preprocessing and the loop around a model, against code that people write with cv2 and LiteRT, in turn.

1. A decoded 640x480 picture, and a JPEG of it, into a 224x224 int8 input: edgeloop, a careful cv2 chain (area averaging
   or the same scaling as ours, then xor), and the usual one (whole frame to RGB, cv2's default resize, float,
   normalize, round, clip).
2. JPEG to class through a model: the agent's steps against a loop of the careful chain and a bare interpreter. Bound
   from the design: at most 1.05x.
3. A 3 KB input: what the agent's loop, and a call of `Model`, add to bare set_tensor, invoke and get_tensor. Bound:
   25 us.
"""

from __future__ import annotations

import argparse
import itertools
import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from _timing import host, shared_data

from edgeloop.affine import Affine
from edgeloop.bundle import BundleDraft, VariantDraft, load_or_create_signing_key, write_bundle
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.graph import Graph, Op, Quantization, Subgraph, Tensor, make_options
from edgeloop.pictures import read_picture
from edgeloop.preprocess import compile_input
from edgeloop.preprocess.pictures import scaled
from edgeloop.runtime import TensorInfo, open_session
from edgeloop_agent.ipc import Channel, Page
from edgeloop_agent.worker.loop import Control, Recorder, run_loop
from edgeloop_agent.worker.pipeline import build_pipeline

BLOCK = 40
SIDE = 224
SCALE, ZERO = 1 / 255, -128  # pixels as 0..1, as most int8 models take them: code = pixel - 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=21)
    runs = parser.parse_args().runs
    cv2.setNumThreads(1)
    print(f"{host()}, OpenCV {cv2.__version__}, 1 thread, n = {runs} blocks of {BLOCK}")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["EDGELOOP_HOME"] = f"{scratch}/home"
        photo = cv2.imread(str(shared_data() / "images" / "cat_720p.jpg"))
        names = [f"{scratch}/{i}.jpg" for i in range(8)]
        for i, name in enumerate(names):
            cv2.imwrite(name, cv2.resize(photo[:, 20 * i : 20 * i + 960], (640, 480), interpolation=cv2.INTER_AREA))
        into_tensor(names, runs)
        for title, model in (
            ("a model of 30 us", tiny_int8(SIDE)),
            ("MobileNetV2", (shared_data() / "models/coral/mobilenet_v2_1.0_224_quant.tflite").read_bytes()),
        ):
            into_class(title, model, names, runs)
        overhead(Path(scratch), runs)


def into_tensor(names: Sequence[str], runs: int) -> None:
    tensor = TensorInfo("x", 0, (1, SIDE, SIDE, 3), np.dtype(np.int8), Affine(SCALE, ZERO))
    ours = compile_input(InputSpec(kind="image", size=(SIDE, SIDE), std=(255.0,)), tensor)
    decoded = [read_picture(name) for name in names]
    sides = {
        "edgeloop": ours, "careful, area": careful_area, "careful, our scaling": careful_scaled,
        "usual": usual, "usual, area": usual_area,
    }  # fmt: skip
    compare("a decoded picture to int8", {k: over(decoded, f) for k, f in sides.items()}, runs)
    chains = {k: over(names, lambda name, f=f: f(cv2.imread(name))) for k, f in sides.items() if k != "edgeloop"}
    whole = over(names, lambda name: ours(read_picture(name)))
    fraction = over(names, lambda name: ours(read_picture(name, (SIDE, SIDE))))
    compare("a JPEG file to int8", {"edgeloop": whole, "edgeloop, scaled decode": fraction, **chains}, runs)


def into_class(title: str, model: bytes, names: Sequence[str], runs: int) -> None:
    session = open_session(model)
    scaling: dict[str, Any] = {"std": (255.0,)}
    if session.inputs[0].dtype == np.uint8:  # MobileNet's -1..1
        scaling = {"mean": (128.0,), "std": (128.0,)}
    spec = InputSpec(kind="image", size=(SIDE, SIDE), **scaling)
    steps = build_pipeline(session, Contract((spec,), OutputSpec("classification")))
    bare, given, told = interpreter(model)
    as_codes = (lambda pixels: pixels) if given["dtype"] == np.uint8 else to_int8

    def ours(name: str, at_least: tuple[int, int] | None = None) -> Any:
        steps.set_input(steps.prepare(read_picture(name, at_least)))
        steps.invoke()
        return steps.decode(steps.collect())

    def theirs(scale: Callable[[Any], Any]) -> Callable[[str], Any]:
        def run(name: str) -> Any:
            pixels = cv2.cvtColor(scale(cv2.imread(name)), cv2.COLOR_BGR2RGB)
            bare.set_tensor(given["index"], as_codes(pixels)[None])
            bare.invoke()
            return bare.get_tensor(told["index"])[0].argmax()

        return run

    def usual_loop(name: str) -> Any:
        codes = usual(cv2.imread(name))
        bare.set_tensor(given["index"], codes if given["dtype"] == np.int8 else codes.view(np.uint8))
        bare.invoke()
        return bare.get_tensor(told["index"])[0].argmax()

    sides = {
        "edgeloop": over(names, ours), "edgeloop, scaled decode": over(names, lambda name: ours(name, (SIDE, SIDE))),
        "careful, area": over(names, theirs(area)),
        "careful, our scaling": over(names, theirs(lambda f: scaled(f, SIDE, SIDE))), "usual": over(names, usual_loop),
    }  # fmt: skip
    compare(f"a JPEG file to a class, {title}", sides, runs)


def overhead(folder: Path, runs: int) -> None:
    """Each side runs a block of the same frames; what is above the bare interpreter is the loop's."""
    import edgeloop_agent

    model = tiny_int8(32)
    frames = [np.random.default_rng(i).integers(0, 256, (32, 32, 3)).astype(np.uint8) for i in range(BLOCK)]
    spec = InputSpec(kind="image", size=(32, 32), std=(255.0,))
    contract = Contract((spec,), OutputSpec("classification", ("a", "b", "c")))
    steps = build_pipeline(open_session(model), contract)
    bare, given, told = interpreter(model)
    codes = [steps.prepare(frame).copy() for frame in frames]

    def interpreter_alone(array: Any) -> None:
        bare.set_tensor(given["index"], array)
        bare.invoke()
        bare.get_tensor(told["index"])

    path = folder / "tiny.bundle"
    draft = BundleDraft("tiny", 1, "generic-x86-64", contract, [VariantDraft("int8", model, "int8", ("xnnpack",))])
    write_bundle(path, draft, load_or_create_signing_key())
    source, control = Again(frames), Control()
    mine, other = socket.socketpair()
    channel, page = Channel(mine), Page()
    threading.Thread(target=drain, args=(other,), daemon=True).start()
    recorder = Recorder(channel, page.slots, [], control)
    with edgeloop_agent.open(path) as opened:
        sides: dict[str, Callable[[], object]] = {
            "bare": over(codes, interpreter_alone),
            "the agent's loop": lambda: run_loop(steps, source, [], recorder, page.slots, control, count=BLOCK),
            "a call of Model": over(frames, opened),
        }
        seconds = interleaved(sides, runs * 5)
    for name in list(sides)[1:]:
        extra = statistics.median(b - a for a, b in zip(seconds["bare"], seconds[name], strict=True))
        print(f"{name} over the bare interpreter, 3 KB input: {extra * 1e6:.1f} us a frame "
              f"(bare {statistics.median(seconds['bare']) * 1e6:.1f} us)")  # fmt: skip


class Again:
    """A source of the same frames, again and again."""

    def __init__(self, frames: Sequence[Any]) -> None:
        self._next = itertools.cycle(frames).__next__

    def read(self) -> tuple[Any, str]:
        return self._next(), "frame"

    def close(self) -> None:
        pass


def drain(end: socket.socket) -> None:
    while end.recv(1 << 16):
        pass


def area(frame: Any) -> Any:
    return cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def to_int8(pixels: Any) -> Any:
    return (pixels ^ 0x80).view(np.int8)


def careful_area(frame: Any) -> Any:
    return to_int8(cv2.cvtColor(area(frame), cv2.COLOR_BGR2RGB))


def careful_scaled(frame: Any) -> Any:
    return to_int8(cv2.cvtColor(scaled(frame, SIDE, SIDE), cv2.COLOR_BGR2RGB))


def usual(frame: Any, interpolation: int = cv2.INTER_LINEAR) -> Any:
    """As in most samples: color first, cv2's default resize, normalize in float, quantize with the input's details."""
    rgb = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), (SIDE, SIDE), interpolation=interpolation)
    values = rgb.astype(np.float32) / 255.0
    return np.clip(np.round(values / SCALE + ZERO), -128, 127).astype(np.int8)[None]


def usual_area(frame: Any) -> Any:
    return usual(frame, cv2.INTER_AREA)


def interpreter(model: bytes) -> tuple[Any, Any, Any]:
    from ai_edge_litert.interpreter import Interpreter

    found = Interpreter(model_content=model, num_threads=1)
    found.allocate_tensors()
    return found, found.get_input_details()[0], found.get_output_details()[0]


def tiny_int8(side: int) -> bytes:
    """int8 [1, side, side, 3] to [1, 3]: the mean of each channel, and next to no time."""
    q = Quantization.per_tensor(SCALE, ZERO)
    tensors = [
        Tensor("picture", (1, side, side, 3), "int8", quantization=q),
        Tensor("mean", (1, 1, 1, 3), "int8", quantization=q),
        Tensor("scores", (1, 3), "int8", quantization=q),
        Tensor("shape", (2,), "int32", data=np.array([1, 3], np.int32)),
    ]
    pool = make_options("Pool2DOptions", padding=1, strideH=1, strideW=1, filterHeight=side, filterWidth=side)
    ops = [Op("AVERAGE_POOL_2D", [0], [1], pool), Op("RESHAPE", [1, 3], [2], make_options("ReshapeOptions"))]
    return Graph([Subgraph("main", tensors, [0], [2], ops)]).write()


def over(items: Sequence[Any], run: Callable[[Any], object]) -> Callable[[], object]:
    """A block: `run` on BLOCK of the items, in turn."""
    chosen = list(itertools.islice(itertools.cycle(items), BLOCK))

    def block() -> None:
        for item in chosen:
            run(item)

    return block


def interleaved(sides: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Seconds per frame of each side, block by block in turn, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for run in range(runs + 1):
        for name, block in sides.items():
            began = time.perf_counter()
            block()
            if run:
                seconds[name].append((time.perf_counter() - began) / BLOCK)
    return seconds


def compare(title: str, sides: Mapping[str, Callable[[], object]], runs: int) -> None:
    seconds = interleaved(sides, runs)
    ours = seconds["edgeloop"]
    told = ", ".join(
        f"{name} {statistics.median(times) * 1e6:.0f} us "
        f"({statistics.median(a / b for a, b in zip(times, ours, strict=True)):.2f} times ours)"
        for name, times in seconds.items()
        if name != "edgeloop"
    )
    print(f"{title}: edgeloop {statistics.median(ours) * 1e6:.0f} us; {told}")


if __name__ == "__main__":
    main()
