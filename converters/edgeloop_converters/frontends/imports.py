"""Imports of native libraries, in the child: in a thread while the file is scanned, and quicker."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from threading import Thread

from edgeloop_converters.importing import without_garbage_collection

_TAKEN_ALONG = ("jax", "sklearn", "pandas")
"""What TensorFlow and Keras import where it is installed, for functions that no conversion calls: 0.9 s of 4."""


@cache
def importing(names: tuple[str, ...]) -> Future[None]:
    """Start importing, in this order; the same future when asked again. `result()` waits, and raises ImportError."""
    done: Future[None] = Future()

    def work() -> None:
        try:
            with without_garbage_collection(), _not_installed(_TAKEN_ALONG if "keras" in names else ()):
                for name in names:
                    import_module(name)
        except BaseException as error:  # a native library throws more than ImportError
            done.set_exception(error)
        else:
            done.set_result(None)

    Thread(target=work, name="imports", daemon=True).start()
    return done


@contextmanager
def _not_installed(names: Sequence[str]) -> Iterator[None]:
    """`import NAME` raises ImportError meanwhile, unless it was imported before."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: as the import system documents it
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
