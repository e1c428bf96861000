"""`serial:///dev/ttyUSB0?baud=115200`: a sensor that writes one sample a line, as CSV or JSON; with `window=64&hop=16`
the last 64 of them at every 16th."""

from __future__ import annotations

import json
from collections import deque
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import DataError, DeviceError, MissingExtraError, UsageError
from edgeloop_agent.sources.live import Feed, Newest, Say

if TYPE_CHECKING:
    from edgeloop_agent.sources import SourceSpec, Wanted

DEFAULT_BAUD = 115_200
MAX_LINE_BYTES = 1 << 16
_POLL_S = 0.5


def open_serial(spec: SourceSpec, wanted: Wanted, *, skip: int = 0, loop: bool = False) -> Newest:
    if find_spec("serial") is None:
        raise MissingExtraError("a serial sensor", "serial")
    name = str(spec)
    inputs = tuple(each.input.name for each in wanted.every) if wanted.others else ()
    lines = SampleLines(name, spec.options.get("format", ""), spec.options.get("keys", ()), inputs)
    window = spec.options.get("window", 0)
    if not window:
        return Newest(name, lambda: LineFeed(name, open_port(spec)), lines)
    if inputs:
        raise UsageError(f"source {spec}: windows are for a model with one input, and this has {len(inputs)}")
    hop = spec.options.get("hop", window)
    return Newest(name, lambda: WindowFeed(LineFeed(name, open_port(spec)), lines, window, hop), lambda item, say: item)


def open_port(spec: SourceSpec) -> Any:
    """Raises DeviceError."""
    import serial

    try:
        return serial.Serial(spec.path, spec.options.get("baud", DEFAULT_BAUD), timeout=_POLL_S, exclusive=True)
    except Exception as error:  # SerialException, OSError, ValueError for a speed, termios.error
        reason = getattr(error, "strerror", None) or str(error)
        raise DeviceError(
            f"source {spec}: {reason}", hint="is it plugged in, and the user in the group dialout?"
        ) from error


class LineFeed:
    """A Feed of lines (bytes without their end) of a port that is open."""

    def __init__(self, name: str, port: Any) -> None:
        self._name = name
        self._port = port
        self._buffer = bytearray()
        self._is_first = True
        self._lines: list[bytes] = []

    def read(self) -> bytes | None:
        while not self._lines:
            try:
                # in_waiting or 1: a fixed size would wait for the timeout at the end of every line.
                data = self._port.read(self._port.in_waiting or 1)
            except Exception as error:  # SerialException, OSError and termios.error, which is neither
                raise DeviceError(f"source {self._name}: the port is gone: {error}") from error
            if not data:
                return None
            self._split(data)
        line = self._lines.pop(0)
        was_first, self._is_first = self._is_first, False
        if was_first and not _is_sample(line):  # what was on its way when the port was opened
            return None
        return line

    def close(self) -> None:
        self._port.close()

    def _split(self, data: bytes) -> None:
        self._buffer += data
        *lines, rest = bytes(self._buffer).split(b"\n")
        self._buffer = bytearray(rest)
        self._lines += [stripped for line in lines if (stripped := line.strip())]
        if len(rest) > MAX_LINE_BYTES:
            self._buffer.clear()
            raise DataError(
                f"source {self._name}: {MAX_LINE_BYTES} bytes without the end of a line (is the speed right?)"
            )


def _is_sample(line: bytes) -> bool:
    try:
        json.loads(b"[" + line + b"]")
    except ValueError:
        return False
    return True


class SampleLines:
    """A Decode for lines: `1.5,2,3` or JSON (a list, nested or not, a number, or an object) to float32 arrays.

    keys: which values of an object, in this order; without them all, in theirs. inputs: names of a model's several
    inputs: an object then holds a list for each.
    """

    def __init__(self, name: str, form: str, keys: tuple[str, ...], inputs: tuple[str, ...]) -> None:
        """form: "csv", "json" or "" (each line by itself)."""
        self._name = name
        self._form = form
        self._keys = keys
        self._inputs = inputs

    def __call__(self, line: Any, say: Say) -> Any:
        try:
            values = self._values(line.decode("utf-8"))
            if self._inputs:
                return {each: np.asarray(values[each], np.float32) for each in self._inputs}
            return np.asarray(self._chosen(values), np.float32)
        except KeyError as error:
            raise DataError(f"source {self._name}: the line has no {error}: {_shown(line)}") from error
        except (ValueError, TypeError, RecursionError) as error:
            raise DataError(f"source {self._name}: not a sample: {_shown(line)}") from error

    def _values(self, text: str) -> Any:
        form = self._form or ("json" if text[0] in "[{" else "csv")
        if form == "json":
            return json.loads(text)
        return [float(each) for each in text.replace(";", ",").split(",")]

    def _chosen(self, values: Any) -> Any:
        if isinstance(values, dict):
            return [values[key] for key in self._keys] if self._keys else list(values.values())
        if self._keys:
            raise ValueError
        return values


def _shown(line: bytes) -> str:
    text = line[:60].decode("ascii", "replace")
    return repr(text) + ("..." if len(line) > 60 else "")


class WindowFeed:
    """A Feed of float32 [window, values]: the latest lines, at every `hop`-th. Behind a line that is no sample, or of
    another length, a window begins anew: none has a gap."""

    def __init__(self, lines: Feed, decode: SampleLines, window: int, hop: int) -> None:
        self._lines = lines
        self._decode = decode
        self._samples: deque[npt.NDArray[np.float32]] = deque(maxlen=window)
        self._hop = hop
        self._left = window

    def read(self) -> npt.NDArray[np.float32] | None:
        line = self._lines.read()
        if line is None:
            return None
        try:
            sample = self._decode(line, _nothing_to_say)
            if self._samples and sample.shape != self._samples[0].shape:
                raise DataError(f"a line of {sample.size} values, and those before had {self._samples[0].size}")
        except DataError:
            self._samples.clear()
            self._left = self._samples.maxlen or 1
            raise
        self._samples.append(sample)
        self._left -= 1
        if self._left > 0:
            return None
        self._left = self._hop
        return np.stack(self._samples)

    def close(self) -> None:
        self._lines.close()


def _nothing_to_say(kind: str, detail: str) -> None:
    pass
