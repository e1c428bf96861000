"""`wav:FILE?window=1&hop=0.5`: windows of a sound file, in seconds, through the standard library's `wave`."""

from __future__ import annotations

import wave
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeloop.errors import DataError, UsageError

if TYPE_CHECKING:
    from edgeloop_agent.sources import Frame, SourceSpec, Wanted

MAX_WINDOW_SAMPLES = 1 << 24
_SCALES = {1: 2.0**7, 2: 2.0**15, 3: 2.0**23, 4: 2.0**31}


class WavSource:
    """float32 [window], channels averaged: -1..1, or with `values=int16` -32768..32767.

    The window is the model's sample where `window` is not given, the hop is the window. What is left behind the last
    whole window is not read. `rate`: the sample rate that the file must have; nothing is resampled.
    """

    def __init__(self, spec: SourceSpec, wanted: Wanted, *, skip: int = 0, loop: bool = False) -> None:
        self._spec = spec
        self._base = Path(spec.path).name
        self._loop = loop
        try:
            self._file = wave.open(spec.path, "rb")  # noqa: SIM115  read until `close`
        except (wave.Error, EOFError) as error:
            raise DataError(f"source {spec}: not a PCM wav file ({error or 'it ends at once'})") from error
        except OSError as error:
            raise DataError(f"source {spec}: {error.strerror}") from error
        self._width, self._channels = self._file.getsampwidth(), self._file.getnchannels()
        rate, frames = self._file.getframerate(), self._file.getnframes()
        asked = spec.options.get("rate", rate)
        if rate != asked:
            raise DataError(
                f"source {spec}: sampled at {rate} Hz, not {asked}", hint=f"sox IN.wav -r {asked} OUT.wav resamples it"
            )
        if self._width not in _SCALES or rate < 1:
            raise DataError(f"source {spec}: samples of {8 * self._width} bits at {rate} Hz are not read")
        seconds, sample = spec.options.get("window"), prod(wanted.input.shape or wanted.shape or (0,))
        self._window = round(seconds * rate) if seconds else sample
        self._hop = max(1, round(spec.options["hop"] * rate)) if "hop" in spec.options else self._window
        if not 1 <= self._window <= MAX_WINDOW_SAMPLES:
            raise UsageError(f"source {spec}: a window of {self._window} samples", hint="give ?window=SECONDS")
        self._windows = (frames - self._window) // self._hop + 1 if frames >= self._window else 0
        if not self._windows:
            raise DataError(f"source {spec}: {frames} samples, less than one window of {self._window}")
        self._scale = _SCALES[self._width] / (2.0**15 if spec.options.get("values") == "int16" else 1.0)
        self._next = skip % self._windows if loop else skip

    def read(self) -> tuple[Frame, str] | None:
        at = self._next
        if at >= self._windows:
            if not self._loop:
                return None
            at = 0
        self._next = at + 1
        self._file.setpos(at * self._hop)
        data = self._file.readframes(self._window)
        if len(data) != self._window * self._width * self._channels:
            raise DataError(f"source {self._spec}: window {at} is cut off: the file is shorter than its header says")
        return self._mono(data), f"{self._base}[{at}]"

    def close(self) -> None:
        self._file.close()
        self._windows = 0

    def _mono(self, data: bytes) -> Frame:
        if self._width == 1:
            codes = np.frombuffer(data, np.uint8).astype(np.float32) - 128.0
        elif self._width == 3:  # to the upper three bytes of an int32, which is then 256 times too large
            padded = np.zeros((len(data) // 3, 4), np.uint8)
            padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            codes = padded.view("<i4")[:, 0].astype(np.float32) / 256.0
        else:
            codes = np.frombuffer(data, f"<i{self._width}").astype(np.float32)
        mono = codes.reshape(-1, self._channels).mean(axis=1) if self._channels > 1 else codes
        return np.asarray(mono / self._scale, np.float32)
