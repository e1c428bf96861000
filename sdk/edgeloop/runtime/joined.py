"""A model cut in two behind an exit head, as one session: the halves run one after the other, or the first alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgeloop.runtime.plan import RanOn
from edgeloop.runtime.session import Session, TensorInfo

if TYPE_CHECKING:
    from edgeloop.graph.parts import Halves


class JoinedSession(Session):
    """Both halves behind the interface of one. `invoke` runs both; `invoke_first` and `invoke_second` one each.

    exit: index of the exit head among the outputs.
    """

    def __init__(self, first: Session, second: Session, exit: int) -> None:
        self.first, self.second, self.exit = first, second, exit
        self.inputs = first.inputs
        outputs: list[TensorInfo] = list(second.outputs)
        outputs.insert(exit, first.outputs[0])
        self.outputs = tuple(outputs)
        self.ran_on: RanOn = replace(
            first.ran_on,
            delegated_ops=first.ran_on.delegated_ops + second.ran_on.delegated_ops,
            total_ops=first.ran_on.total_ops + second.ran_on.total_ops,
        )
        self.delegated = frozenset()
        self.set_input = first.set_input
        self.invoke_first: Callable[[], None] = first.invoke
        self.invoke = self._invoke
        self.output = self._output

    def invoke_second(self) -> None:
        first, second = self.first, self.second
        for i in range(len(second.inputs)):
            second.set_input(i, first.output(i + 1))
        second.invoke()

    def exit_output(self) -> Any:
        return self.first.output(0)

    def _invoke(self) -> None:
        self.invoke_first()
        self.invoke_second()

    def _output(self, i: int) -> Any:
        if i == self.exit:
            return self.first.output(0)
        return self.second.output(i - (i > self.exit))

    def close(self) -> None:
        self.first.close()
        self.second.close()
        super().close()


def open_halves(halves: Halves, open_one: Callable[[bytes], Session]) -> JoinedSession:
    """Raises whatever `open_one` does."""
    return JoinedSession(open_one(halves.first), open_one(halves.second), halves.exit)
