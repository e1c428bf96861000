"""Made-up keywords, and the features that a keyword spotter eats: mel-frequency cepstral coefficients, in numpy alone.

A word is two formants that glide, driven by the pulse of a voice, with bursts of noise for its consonants. No recording
is used, so the sample needs no download; the features are what a device would compute from its microphone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RATE_HZ = 8000
FRAME, HOP, FRAMES = 256, 160, 49
BANDS, COEFFICIENTS = 20, 10


@dataclass(frozen=True)
class Word:
    """Formants in Hz at the start and the end; noise (loudness, center in Hz) before and after the voiced part."""

    first: tuple[float, float]
    second: tuple[float, float]
    before: tuple[float, float] = (0.0, 3000.0)
    after: tuple[float, float] = (0.0, 3000.0)


WORDS = {
    "down": Word((750, 400), (1250, 900)),
    "go": Word((500, 330), (950, 700), before=(0.3, 1200)),
    "left": Word((420, 600), (2000, 1600), after=(0.5, 3200)),
    "right": Word((720, 320), (1050, 2250), after=(0.25, 3000)),
    "stop": Word((620, 560), (950, 1050), before=(0.6, 3500), after=(0.3, 1000)),
    "up": Word((640, 520), (1150, 950), after=(0.35, 900)),
}


def say(word: Word, random: np.random.Generator) -> np.ndarray:
    """One second, float [8000] of about -1..1: any speaker, speed, place and loudness of the room."""
    n = RATE_HZ
    length = int(random.uniform(0.28, 0.5) * RATE_HZ)
    start = int(random.integers(600, n - length - 900))
    t = np.linspace(0, 1, length)
    voice = random.uniform(0.85, 1.18)
    sound = np.zeros(n)
    pulse = 0.5 + 0.5 * np.cos(2 * np.pi * random.uniform(85, 230) * np.arange(length) / RATE_HZ)
    voiced = np.zeros(length)
    for (low, high), weight in ((word.first, 1.0), (word.second, random.uniform(0.4, 0.8))):
        hz = voice * (low + (high - low) * t ** random.uniform(0.6, 1.6)) * random.uniform(0.95, 1.05)
        voiced += weight * np.sin(2 * np.pi * np.cumsum(hz) / RATE_HZ)
    sound[start : start + length] = voiced * pulse**3 * np.sin(np.pi * t) ** 0.5
    for (loudness, hz), at in ((word.before, start - 500), (word.after, start + length)):
        burst = random.normal(0, 1, 500) * np.cos(2 * np.pi * hz * np.arange(500) / RATE_HZ)
        sound[at : at + 500] += loudness * burst * np.hanning(500)
    return sound * random.uniform(0.3, 1.0) + random.normal(0, random.uniform(0.01, 0.12), n)


def mel_filters() -> np.ndarray:
    """Triangles evenly spaced on the mel scale, mel = 2595 log10(1 + Hz / 700): float [129, 20]."""
    top = 2595 * np.log10(1 + RATE_HZ / 2 / 700)
    edges_hz = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    bins_hz = np.fft.rfftfreq(FRAME, 1 / RATE_HZ)[:, None]
    low, middle, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    return np.clip(np.minimum((bins_hz - low) / (middle - low), (high - bins_hz) / (high - middle)), 0, None)


def features(sound: np.ndarray) -> np.ndarray:
    """MFCC, float32 [49, 10, 1]: windowed spectrum -> mel bands -> logarithm -> cosine transform (DCT-II)."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME)[: HOP * FRAMES : HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME))) ** 2
    bands = np.log(power @ mel_filters() + 1e-4)
    k = np.arange(COEFFICIENTS)[None, :]
    cosines = np.cos(np.pi / BANDS * (np.arange(BANDS)[:, None] + 0.5) * k) * np.sqrt(2 / BANDS)
    return (bands @ cosines).astype(np.float32)[..., None]


def make(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(features float32 [n, 49, 10, 1], class ids [n]), every word as often."""
    random = np.random.default_rng(seed)
    words = list(WORDS.values())
    labels = np.arange(count) % len(words)
    return np.stack([features(say(words[i], random)) for i in labels]), labels
