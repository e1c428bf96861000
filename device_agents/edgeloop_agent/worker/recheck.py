"""Golden samples again while the worker runs: an accelerator that grows hot or loses power may begin to compute
something else, and says nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgeloop.errors import DelegateError, UsageError
from edgeloop_agent.worker.pipeline import self_test

if TYPE_CHECKING:
    from edgeloop.bundle import Golden
    from edgeloop.contract import Contract
    from edgeloop.runtime import Session


class SelfTest:
    """Tests every session when it is opened, with all golden samples, and one of them with one sample now and then.

    Called by one thread at a time, but for `opened`.
    """

    def __init__(self, contract: Contract, golden: Golden | None, every_s: float) -> None:
        """every_s: 0 is never again."""
        self._contract = contract
        self._golden = golden
        self._every_ns = int(every_s * 1e9)
        self._due_ns = time.perf_counter_ns() + self._every_ns
        self._count = 0
        self.results: list[dict[str, Any] | None] = []
        """Of every test at an opening, in their order: see `pipeline.self_test`."""
        self._open: list[tuple[Session, str]] = []

    def opened(self, session: Session, variant: str) -> None:
        """Test it. Raises DelegateError."""
        self.results.append(self_test(session, self._contract, self._golden, variant))
        if self._golden is not None and self._every_ns:
            self._open.append((session, variant))

    def again(self, now_ns: int, work: Callable[[], None]) -> None:
        """Test one session, where it is time to; `work` is called before. now_ns: of `perf_counter_ns`. Raises
        DelegateError.

        One sample that differs proves nothing (one in eight may): then all of them are run.
        """
        if not self._open or now_ns < self._due_ns or self._golden is None:
            return
        self._due_ns = now_ns + self._every_ns
        work()
        session, variant = self._open[self._count % len(self._open)]
        one = _sample(self._golden, self._count // len(self._open) % self._golden.n)
        self._count += 1
        try:
            try:
                self_test(session, self._contract, one, variant)
            except DelegateError:
                self_test(session, self._contract, self._golden, variant)
        except UsageError:  # closed meanwhile: a variant that is not kept warm
            self._open.remove((session, variant))


def _sample(golden: Golden, i: int) -> Golden:
    def part(array: Any) -> Any:
        return array[i : i + 1]

    return replace(
        golden,
        inputs={name: part(array) for name, array in golden.inputs.items()},
        outputs={
            variant: {family: [part(a) for a in arrays] for family, arrays in families.items()}
            for variant, families in golden.outputs.items()
        },
    )
