"""The process that autotune measures: holds sessions of candidates and runs the one it is told to.

One JSON object a line each way. {"open": id, "variant", "delegate", "threads"} -> {"ran", "load_ms", "rss_bytes"}, with
"whole": true also what a worker has around the model (pictures' libraries, decoding); {"run": id, "for_s": seconds} ->
{"times_ns"}; {"close": id} -> {}. A candidate that does not work answers {"failed": why, "hint"}; one that crashes
takes this process along, which its parent notices.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from edgeloop import probes
from edgeloop.errors import EdgeloopError, install_hint

_MOST_PER_SLICE = 1000  # more would tell nothing: a fast model is settled long before the time is over


def main(staged: str) -> int:
    bench = _Bench(Path(staged))
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = bench.obey(order)
        except EdgeloopError as error:
            answer = {"failed": error.message, "hint": error.hint or ""}
        except ModuleNotFoundError as error:
            answer = {"failed": f"Python module {error.name} is not installed here", "hint": _hint(error.name)}
        print(json.dumps(answer), flush=True)
    return 0


def _hint(module: str | None) -> str:
    slim = "pictures need OpenCV: install an agent without --slim, and run or deploy that first"
    return slim if module == "cv2" else install_hint("agent")


class _Bench:
    """`staged`: the folder of an unpacked, verified bundle."""

    def __init__(self, staged: Path) -> None:
        from edgeloop.bundle.golden import decode_golden
        from edgeloop.bundle.limits import GOLDEN, MANIFEST
        from edgeloop.bundle.manifest_reading import decode_manifest

        self._staged = staged
        self._manifest = decode_manifest((staged / MANIFEST).read_bytes())
        self._golden = None
        if self._manifest.golden is not None:
            self._golden = decode_golden(self._manifest.golden, (staged / GOLDEN).read_bytes())
        self._open: dict[int, tuple[Any, Any]] = {}

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        if "open" in order:
            return self._open_one(order)
        if "run" in order:
            return {"times_ns": self._run(order["run"], order["for_s"])}
        session, _frame = self._open.pop(order["close"], (None, None))
        if session is not None:
            session.close()
        return {}

    def _open_one(self, order: dict[str, Any]) -> dict[str, Any]:
        from edgeloop.bench import random_inputs
        from edgeloop.bundle.needs import check_runtime
        from edgeloop.runtime import open_session, runtime_info
        from edgeloop_agent.worker.pipeline import build_pipeline, self_test

        check_runtime(self._manifest, runtime_info())
        variant = self._manifest.variant(order["variant"])
        began = time.perf_counter()
        session = open_session(self._staged / variant.file, delegate=order["delegate"], threads=order["threads"])
        load_ms = (time.perf_counter() - began) * 1e3
        try:
            if order.get("whole"):
                build_pipeline(session, self._manifest.contract)
            self_test(session, self._manifest.contract, self._golden, variant.name)
            frame = random_inputs(session)
            session.run(*frame)
        except (EdgeloopError, ModuleNotFoundError):
            session.close()
            raise
        self._open[order["open"]] = session, frame
        return {"ran": session.ran_on.ran, "load_ms": round(load_ms, 3), "rss_bytes": probes.rss_bytes() or 0}

    def _run(self, number: int, for_s: float) -> list[int]:
        """Inferences for so long, at least one; the first, which finds cold caches, is not counted where there are
        more."""
        session, frame = self._open[number]
        inputs, outputs, clock = tuple(enumerate(frame)), range(len(session.outputs)), time.perf_counter_ns
        times: list[int] = []
        until = clock() + int(for_s * 1e9)
        while not times or (clock() < until and len(times) < _MOST_PER_SLICE):
            started = clock()
            for i, array in inputs:
                session.set_input(i, array)
            session.invoke()
            for i in outputs:
                session.output(i)
            times.append(clock() - started)
        return times[1:] or times


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
