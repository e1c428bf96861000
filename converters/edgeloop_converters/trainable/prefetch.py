"""The next items of an iterator, made in a thread while the last one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

_DEPTH = 2


class _End:
    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


@contextmanager
def prefetched(source: Iterator[T]) -> Iterator[Iterator[T]]:
    """The same items in the same order; an error is raised where its item would have come. The thread ends with the
    block."""
    ready: queue.Queue[T | _End] = queue.Queue(_DEPTH)
    over = threading.Event()

    def put(item: T | _End) -> bool:
        while not over.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in source:
                if not put(item):
                    return
        except BaseException as error:  # raised again where the item was wanted
            put(_End(error))
        else:
            put(_End())

    def items() -> Iterator[T]:
        while True:
            item = ready.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    thread = threading.Thread(target=work, name="training data", daemon=True)
    thread.start()
    try:
        yield items()
    finally:
        over.set()
        thread.join()
