"""What the fault suite counts by: what a device made and kept, what a store has, and a line for the table in the docs.

Each test is short in the usual suite; EDGELOOP_FAULTS=long gives it the size of the table (tests/e2e/faults/table.py).
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgeloop.telemetry.store import open_store

LONG = os.environ.get("EDGELOOP_FAULTS") == "long"
_TABLE = "EDGELOOP_FAULTS_TABLE"
TESTS = Path(__file__).resolve().parents[1]

Key = tuple[str, int]


def amount(short: int, long: int) -> int:
    """How much of it in this run."""
    return long if LONG else short


def record(fault: str, n: str, result: str) -> None:
    """A row of the table, where one is made."""
    if path := os.environ.get(_TABLE):
        with Path(path).open("a") as file:
            file.write(json.dumps({"fault": fault, "n": n, "result": result}) + "\n")


@dataclass(frozen=True)
class Ledger:
    """What a device side wrote down: each report when it was made, before it went anywhere, and when it was kept."""

    made: frozenset[Key]
    kept: frozenset[Key]

    @classmethod
    def read(cls, *paths: Path) -> Ledger:
        keys: dict[str, set[Key]] = {"made": set(), "kept": set()}
        for path in paths:
            for line in path.read_text().splitlines():
                what, boot, seq = line.split()
                keys[what].add((boot, int(seq)))
        return cls(frozenset(keys["made"]), frozenset(keys["kept"]))


@dataclass(frozen=True)
class Verdict:
    """What came of the reports of a ledger. twice: stored more than once; unmade: stored, but nobody made it."""

    made: int
    kept: int
    stored: int
    lost: int
    twice: int
    unmade: int

    def check(self) -> None:
        """AssertionError unless every report that was kept is stored, once, and nothing else is."""
        assert (self.lost, self.twice, self.unmade) == (0, 0, 0), self

    def __str__(self) -> str:
        cut = f", {self.made - self.kept} cut off while being made" if self.made > self.kept else ""
        return f"lost {self.lost}, stored twice {self.twice}, wrong {self.unmade}{cut}"


def judge(ledger: Ledger, stored: Iterable[Key]) -> Verdict:
    """`stored`: as often as the store has each."""
    counts = Counter(stored)
    return Verdict(
        made=len(ledger.made),
        kept=len(ledger.kept),
        stored=len(counts),
        lost=len(ledger.kept - set(counts)),
        twice=sum(count - 1 for count in counts.values()),
        unmade=len(set(counts) - ledger.made),
    )


def stored_keys(store_url: str) -> list[Key]:
    """(boot, seq) of every report in a store, as often as it is there."""
    store = open_store(store_url, create=False)
    try:
        return [(stored.report.boot, stored.report.seq) for stored in store.reports()]
    finally:
        store.close()


def environment() -> dict[str, str]:
    """For a process that runs a module of `support`; not a service, whatever the runner is."""
    inherited = {name: value for name, value in os.environ.items() if name != "INVOCATION_ID"}
    folders = [str(TESTS), *filter(None, [inherited.get("PYTHONPATH")])]
    return {**inherited, "PYTHONPATH": os.pathsep.join(folders)}


def python_module(module: str, *arguments: object) -> list[str]:
    """A command line."""
    return [sys.executable, "-m", module, *map(str, arguments)]
