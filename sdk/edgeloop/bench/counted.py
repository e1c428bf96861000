"""`python -m edgeloop.bench.counted` under an emulator that counts instructions: marks before and after an inference.

A mark is a system call that nothing else here makes; the emulator's plugin writes its sums down at each. There are
MARKS_PER_MODEL: between the first two lies a mark's own cost, between the last two that and one inference.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

MARKS_PER_MODEL = 3
_WARM_UP_RUNS = 2
"""The first packs weights."""


def main() -> int:
    """Paths of models on stdin, a line each; one JSON object per line on stdout: what it ran on, or an `error` and no
    marks. Ends with stdin.
    """
    from edgeloop.errors import EdgeloopError

    for line in sys.stdin:
        try:
            answer = _count(Path(line.rstrip("\n")))
        except EdgeloopError as error:
            answer = {"error": error.message, "hint": error.hint or ""}
        print(json.dumps(answer), flush=True)
    return 0


def _count(model: Path) -> dict[str, object]:
    from edgeloop.bench.measuring import random_inputs
    from edgeloop.runtime import open_session

    mark = os.sched_get_priority_min
    with open_session(model) as session:
        for index, array in enumerate(random_inputs(session)):
            session.set_input(index, array)
        invoke = session.invoke
        for _ in range(_WARM_UP_RUNS):
            invoke()
        mark(0)
        mark(0)
        invoke()
        mark(0)
        ran = session.ran_on
        return {"delegated_ops": ran.delegated_ops, "total_ops": ran.total_ops, "runtime": ran.runtime}


if __name__ == "__main__":
    sys.exit(main())
