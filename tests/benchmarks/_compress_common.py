"""What the parts of `compress.py` share: pictures, models kept between runs, int8, instructions, tables in the docs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeloop.graph import Graph

Array = np.ndarray[Any, Any]

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
CORES = {"A76": "rpi5", "A72": "rpi4"}
_HELD = 2500
_CALIBRATION = 200


class OutOfTimeError(Exception):
    """The model named would be begun too late."""


@dataclass(frozen=True)
class Run:
    """What was asked for. work: models and checkpoints, so that a killed run goes on and loses nothing. until: of the
    monotonic clock; no model is begun after it."""

    quick: bool
    threads: int
    seed: int
    work: Path
    scratch: Path
    until: float = math.inf

    def kept(self, name: str, make: Callable[[Path], Graph]) -> Graph:
        """The model of that name, made where it is not there yet. make: is given a folder for checkpoints. Raises
        OutOfTimeError where it would have to be made."""
        path = self.work / f"{name}.tflite"
        if not path.exists() and time.monotonic() > self.until:
            raise OutOfTimeError(name)
        if not path.exists():
            made = make(self.work / f"{name}.checkpoints").write()
            path.with_suffix(".part").write_bytes(made)
            path.with_suffix(".part").rename(path)
            print(f"made {path.name}", flush=True)
        return Graph.read(path)


@dataclass(frozen=True)
class Pictures:
    """RGB 0..255 and class ids: to learn from, to choose by (cut from the training pictures), and the test pictures."""

    learn: tuple[Array, Array]
    choose: tuple[Array, Array]
    test: tuple[Array, Array]

    def samples(self, count: int) -> list[tuple[Array, ...]]:
        """The first `count` to learn from, as passes take them, without labels."""
        return [(picture[None].astype(np.float32),) for picture in self.learn[0][:count]]


def cifar(run: Run) -> Pictures:
    """45,000 and more in full, few with --quick."""
    each, held = (30, 60) if run.quick else (5000, _HELD)
    pictures, classes = _decoded(run.scratch, "train", each)
    order = np.random.default_rng(run.seed).permutation(len(pictures))
    choose, learn = order[:held], order[held:]
    return Pictures(
        (pictures[learn], classes[learn]),
        (pictures[choose], classes[choose]),
        _decoded(run.scratch, "test", 10 if run.quick else 500),
    )


def _decoded(scratch: Path, part: str, each: int) -> tuple[Array, Array]:
    """uint8 pictures, `each` of every class; classes in alphabetical order, as the models' outputs."""
    import cv2
    from _timing import unpack_cifar

    folders = sorted(path for path in unpack_cifar(scratch, part).iterdir() if path.is_dir())
    paths = [path for folder in folders for path in sorted(folder.glob("*.jpg"))[:each]]
    found = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]
    return np.stack(found), np.asarray([folders.index(path.parent) for path in paths], np.int64)


def classes_of(model: bytes, inputs: Array) -> Array:
    """[n], by LiteRT, one sample at a time as a device does."""
    from _subjects import labels

    return labels(model, inputs.astype(np.float32))


def int8_of(graph: Graph, inputs: Array, seed: int) -> bytes:
    """Without training: ranges of some inputs."""
    from edgeloop_converters.calibration import calibrate
    from edgeloop_converters.quantization import quantize_int8

    chosen = np.random.default_rng(seed).permutation(len(inputs))[:_CALIBRATION]
    model = graph.write()
    return quantize_int8(model, calibrate(model, [inputs[i : i + 1].astype(np.float32) for i in chosen])).tflite


@dataclass(frozen=True)
class Instructions:
    """SIMD instructions of a float graph as int8, on both cores, against those of a reference."""

    costs: Mapping[str, Callable[[Graph], float]]
    reference: Mapping[str, float]

    def gains(self, graph: Graph) -> dict[str, float]:
        """Core -> how many times fewer."""
        return {core: self.reference[core] / cost(graph) for core, cost in self.costs.items()}

    def worst_share(self, graph: Graph) -> float:
        """The larger of both shares of the reference: what a goal for both cores is about."""
        return max(1 / gain for gain in self.gains(graph).values())


@contextmanager
def instructions(reference: Graph) -> Iterator[Instructions]:
    from edgeloop.targets import load_target
    from edgeloop_converters.arm_cost import arm_cost

    with ExitStack() as stack:
        costs = {core: stack.enter_context(arm_cost(load_target(target))) for core, target in CORES.items()}
        yield Instructions(costs, {core: cost(reference) for core, cost in costs.items()})


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(part: str, block: str) -> None:
    """Into the document, between the part's marks."""
    begin, end = (
        f"<!-- made by tests/benchmarks/compress.py --part {part} -->",
        f"<!-- end of what compress.py makes, {part} -->",
    )
    text = DOCUMENT.read_text()
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    DOCUMENT.write_text(f"{before}{begin}\n\n{block}\n\n{end}{after}")
