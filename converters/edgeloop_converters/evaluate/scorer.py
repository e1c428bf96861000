"""Scores by scikit-learn without waiting for its import (0.7 s of pure Python, which a thread would take from ours)."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys

from edgeloop.errors import MissingExtraError
from edgeloop_converters.evaluate.metrics import ClassScores, Ids, classification_scores

# Without the current folder on the path: a json.py there is not the standard library's.
_START = "import sys; sys.path[:] = filter(None, sys.path); from edgeloop_converters.scoring import main; main()"


class Scorer:
    """`with Scorer() as scorer: ...; scorer.score(labels, predictions)`. The process starts at once and ends with us.

    Should it not answer, scikit-learn is imported here instead. Raises MissingExtraError without scikit-learn.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("sklearn") is None:
            raise MissingExtraError("evaluation", "convert")
        self._process: subprocess.Popen[str] | None = None
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )

    def score(self, labels: Ids, predictions: Ids) -> ClassScores:
        """labels, predictions: class ids [n], n >= 1."""
        answer = self._ask({"labels": labels.tolist(), "predictions": predictions.tolist()})
        return ClassScores(*answer) if answer else classification_scores(labels, predictions)

    def _ask(self, question: dict[str, list[int]]) -> list[float] | None:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        try:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
        except (OSError, ValueError):
            return None
        return [float(x) for x in answer]

    def close(self) -> None:
        """End the process. Safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
