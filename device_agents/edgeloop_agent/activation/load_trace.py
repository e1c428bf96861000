"""What the governor sees, kept in a file: a line of JSON for every step, to be replayed under other settings.

The first line says where it comes from; then steps, and a line with the programs whenever what they cost is known
better. Names of programs, times and temperatures only: nothing of any frame.
"""

from __future__ import annotations

import itertools
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from edgeloop.errors import DataError, UsageError
from edgeloop_agent.activation.governor import Signals
from edgeloop_agent.activation.levels import Law, Level, Program

VERSION = 1
MAX_STEPS = 100_000
"""About 14 hours at two steps a second, 17 MB; a recording ends there."""
_MAX_LINE_CHARS = 1 << 16
_MAX_FILE_BYTES = 16 << 20


@dataclass(frozen=True)
class Step:
    """Signals of some half second, and the level that ran then."""

    signals: Signals
    level: Level


@dataclass(frozen=True)
class LoadTrace:
    """A recording. law: the one that governed, None where nothing did. programs: as known at the end, the first is the
    one meant for the board."""

    host: str
    law: Law | None
    programs: tuple[Program, ...]
    steps: tuple[Step, ...]

    @property
    def seconds(self) -> float:
        return self.steps[-1].signals.time_s - self.steps[0].signals.time_s


class LoadRecorder:
    """Writes a trace, a line at a time, so that a crash loses nothing. For one thread."""

    def __init__(self, path: Path, law: Law | None) -> None:
        """Adds to a file that is there: a worker may be a restarted one. Raises UsageError where that is impossible."""
        try:
            is_large = path.exists() and path.stat().st_size > _MAX_FILE_BYTES
            self._file: IO[str] | None = path.open("w" if is_large else "a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise UsageError(f"cannot write the load trace {path}: {error.strerror}") from error
        self._steps = 0
        self._programs: tuple[Program, ...] = ()
        self._write({"load_trace": VERSION, "host": platform.machine(), "law": None if law is None else asdict(law)})

    def record(self, signals: Signals, level: Level, programs: Sequence[Program]) -> str:
        """One step. Why the recording ended with it, "" where it goes on or had ended before."""
        if self._file is None:
            return ""
        known = tuple(programs)
        lines: list[dict[str, Any]] = []
        if known != self._programs:
            self._programs = known
            lines.append({"programs": [asdict(p) for p in known]})
        values = {k: v if isinstance(v, bool) else round(v, 4) for k, v in asdict(signals).items() if v is not None}
        lines.append({**values, "program": level.program.name, "stride": level.stride})
        self._steps += 1
        for line in lines:
            if ended := self._write(line):
                return ended
        if self._steps < MAX_STEPS:
            return ""
        self.close()
        return f"the load trace is full ({MAX_STEPS} steps)"

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, line: dict[str, Any]) -> str:
        assert self._file is not None
        try:
            self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
        except OSError as error:
            self._file = None
            return f"the load trace is not written any more: {error.strerror}"
        return ""


def read_trace(path: Path) -> LoadTrace:
    """The last recording in a file. Raises UsageError where there is no such file, DataError for one that is no trace.

    A last line that was cut off is left out.
    """
    try:
        lines = [json.loads(line) for line in _whole_lines(path)]
        lines = lines[max((i for i, line in enumerate(lines) if "load_trace" in line), default=0) :]
        head = lines[0]
        if head.get("load_trace") != VERSION:
            raise DataError(f"{path.name}: not a load trace of version {VERSION}")
        programs = [tuple(Program(**p) for p in line["programs"]) for line in lines if "programs" in line][-1]
        by_name = {p.name: p for p in programs}
        law = None if head["law"] is None else Law(**head["law"])
        steps = tuple(_step(line, by_name) for line in lines if "program" in line)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path.name}: not a load trace ({type(error).__name__})") from error
    if len(steps) < 2 or any(b.signals.time_s <= a.signals.time_s for a, b in itertools.pairwise(steps)):
        raise DataError(f"{path.name}: a load trace needs at least two steps, in their order in time")
    return LoadTrace(str(head["host"]), law, programs, steps)


def _whole_lines(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as file:
        lines: list[str] = []
        while (line := file.readline(_MAX_LINE_CHARS)) and len(lines) < 2 * MAX_STEPS:
            if line.endswith("\n"):
                lines.append(line)
        return lines


def _step(line: dict[str, Any], programs: dict[str, Program]) -> Step:
    values = {k: v for k, v in line.items() if k not in ("program", "stride")}
    numbers = [v for v in values.values() if not isinstance(v, bool)]
    stride = int(line["stride"])
    if not all(isinstance(v, (int, float)) and abs(v) < 1e15 for v in numbers) or stride < 1:
        raise ValueError
    return Step(Signals(**values), Level(programs[str(line["program"])], stride))
