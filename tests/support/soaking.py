"""An agent with everything on, watched for as long as wished: memory, descriptors, and whether every report arrives."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeloop.bundle import BundleDraft, VariantDraft, load_or_create_signing_key, write_bundle
from edgeloop.bundle.manifest import Metrics
from edgeloop.telemetry.collector.server import start_collector
from support import static_camera
from support.agents import CONTRACT, Agent, Agents, digits_int8

PICTURES = 400
SETTLED = 0.1
"""Share of the time after which memory counts as that of a running agent."""


@dataclass(frozen=True)
class Sample:
    """anonymous_bytes: memory of both processes that no file backs. pss_bytes counts file pages, too, and moves with
    whoever else maps the same libraries."""

    time_s: float
    anonymous_bytes: int
    pss_bytes: int
    descriptors: int


@dataclass(frozen=True)
class Soak:
    """missing: sequence numbers of reports that the collector never got; unbalanced: frames that are in no sum."""

    samples: tuple[Sample, ...]
    frames: int
    inferences: int
    gated: int
    reports: int
    missing: tuple[int, ...]
    unbalanced: int
    restarts: int

    @property
    def anonymous_mib(self) -> tuple[float, float]:
        """(after settling, at the end): medians of a tenth of the time each."""
        return self._medians_mib(lambda sample: sample.anonymous_bytes)

    @property
    def pss_mib(self) -> tuple[float, float]:
        return self._medians_mib(lambda sample: sample.pss_bytes)

    @property
    def growth(self) -> float:
        """Share by which memory that the agent itself asked for grew after it had settled."""
        before, after = self.anonymous_mib
        return after / before - 1.0

    @property
    def more_descriptors(self) -> int:
        first, last = self._ends()
        return max(s.descriptors for s in last) - max(s.descriptors for s in first)

    def _medians_mib(self, of: Callable[[Sample], int]) -> tuple[float, float]:
        first, last = (statistics.median(map(of, part)) / 2**20 for part in self._ends())
        return first, last

    def _ends(self) -> tuple[list[Sample], list[Sample]]:
        began, ended = self.samples[0].time_s, self.samples[-1].time_s
        tenth = (ended - began) * SETTLED
        first = [s for s in self.samples if began + tenth <= s.time_s <= began + 2 * tenth]
        return first, [s for s in self.samples if s.time_s >= ended - tenth]


def soak(folder: Path, *, seconds: float, rate: float = 20.0) -> Soak:
    """Run for so long on a fixed camera's pictures, with gate, governor, cascade, results in a file and reports over
    HTTP, a report every second."""
    agents = Agents(folder)
    bundle, pictures = _bundle(folder / "soak.bundle"), _pictures(folder / "camera")
    try:
        with start_collector(f"sqlite:///{folder}/telemetry.db") as collector:
            agent = agents.start(
                "--bundle", bundle, "--source", f"folder:{pictures}", "--loop", "--rate", str(rate), "--gate",
                "--latency-budget", "1000", "--max-stride", "2", "--cascade", "0.6", "--device", "soak",
                "--sink", f"jsonl:{folder}/out.jsonl", "--telemetry", collector.url, "--report-interval", "1",
            )  # fmt: skip
            agent.wait_until_said(" runs on ")
            samples = _watch(agent, seconds, min(10.0, seconds / 60))
            summary = agent.stop()
            seqs = {each.report.seq for each in collector.store.reports()}
    finally:
        agents.close()
    made = summary["reports"]["made"]
    accounted = summary["inferences"] + summary["gated"] + summary["errors"] + summary["drops"]
    return Soak(
        samples, summary["frames"], summary["inferences"], summary["gated"], made,
        tuple(sorted(set(range(1, made + 1)) - seqs)), summary["frames"] - accounted, summary["restarts"],
    )  # fmt: skip


def _watch(agent: Agent, seconds: float, every_s: float) -> tuple[Sample, ...]:
    samples = []
    ends_s = time.monotonic() + seconds
    while (now := time.monotonic()) < ends_s:
        worker = agent.worker_pid
        if worker is not None:
            samples.append(_sample(now, (agent.process.pid, worker)))
        time.sleep(min(every_s, max(0.0, ends_s - time.monotonic())))
    return tuple(samples)


def _sample(now_s: float, pids: tuple[int, ...]) -> Sample:
    kib = {"Anonymous:": 0, "Pss:": 0}
    descriptors = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, *rest = line.split()
            if name in kib:
                kib[name] += int(rest[0])
        descriptors += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return Sample(now_s, kib["Anonymous:"] << 10, kib["Pss:"] << 10, descriptors)


def _bundle(path: Path) -> Path:
    from support.tiny_models import TinyBuilder

    b = TinyBuilder(3)
    heavy = b.conv(b.conv(b.input("image", (1, 8, 8, 1)), 64), 64)
    model = b.finish(b.softmax(b.dense(b.mean(heavy), 10))).write()
    variants = [
        VariantDraft("heavy", model, "float", ("xnnpack",), Metrics("accuracy", 0.9, 0.9, 1.0, 100)),
        VariantDraft("light", digits_int8(), "int8", ("xnnpack",), Metrics("accuracy", 0.9, 0.8, 0.9, 100)),
    ]
    write_bundle(path, BundleDraft("soak", 1, "generic-x86-64", CONTRACT, variants), load_or_create_signing_key())
    return path


def _pictures(folder: Path) -> Path:
    import cv2

    folder.mkdir()
    for i, frame in enumerate(static_camera.frames(PICTURES)):
        cv2.imwrite(str(folder / f"{i:04}.jpg"), frame[..., ::-1])
    return folder
