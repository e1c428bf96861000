"""Weights on few values inside int8 kernels: each layer has a codebook of int8 codes, every weight is one of them.

The kernels see ordinary int8 weights, so nothing runs slower; fewer different bytes make the compressed file smaller.
A uniform codebook is a b-bit grid; k-means and logarithmic ones are the non-linear quantization floor(f(x) * Q).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

LARGEST = 127
_CLIPS = np.linspace(0.35, 1.0, 27)


@dataclass(frozen=True)
class Codebook:
    """levels: the int8 codes that may be used, ascending. `largest`, at least 1: a channel's clipped maximum."""

    levels: npt.NDArray[np.int64]

    @property
    def largest(self) -> int:
        return max(1, int(np.abs(self.levels).max()))

    def nearest(self, values: Doubles) -> npt.NDArray[np.int64]:
        """values: in units of a code. The nearest level of each."""
        middles = (self.levels[1:] + self.levels[:-1]) / 2
        return np.asarray(self.levels[np.searchsorted(middles, values)])


def uniform(bits: int) -> Codebook:
    """2^bits - 1 evenly spaced codes around 0: Q(x) = round(x / scale)."""
    largest = (1 << (bits - 1)) - 1
    return Codebook(np.arange(-largest, largest + 1))


def logarithmic(clusters: int) -> Codebook:
    """0 and +-127 * 2^(-i / 2), as many as there are clusters: finer near 0, as weights are."""
    count = (clusters - 1) // 2
    sizes = np.rint(LARGEST * 2.0 ** (-np.arange(count) / 2)).astype(np.int64)
    return Codebook(np.unique(np.concatenate([-sizes, [0], sizes])))


def k_means(rows: Doubles, clusters: int, importance: Doubles) -> Codebook:
    """One-dimensional Lloyd iterations on the channels' weights, each scaled to +-127, from their quantiles.

    rows: [outputs, columns]; importance: [columns], how much a squared error of that column weighs.
    """
    largest = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-12)
    values = (rows / largest * LARGEST).ravel()
    weights = np.broadcast_to(importance, rows.shape).ravel() * np.broadcast_to(largest**2, rows.shape).ravel()
    order = np.argsort(values, kind="stable")
    values, weights = values[order], np.maximum(weights[order], 1e-30)
    mass = np.concatenate([[0.0], np.cumsum(weights)])
    moment = np.concatenate([[0.0], np.cumsum(weights * values)])
    centers = np.quantile(values, (np.arange(clusters) + 0.5) / clusters)
    for _ in range(50):
        cuts = np.searchsorted(values, (centers[1:] + centers[:-1]) / 2)
        cuts = np.concatenate([[0], cuts, [len(values)]])
        filled = np.diff(mass[cuts])
        moved = np.where(filled > 0, np.diff(moment[cuts]) / np.maximum(filled, 1e-300), centers)
        if np.allclose(moved, centers, atol=1e-3):
            break
        centers = np.sort(moved)
    centers[np.abs(centers).argmin()] = 0.0  # what is pruned stays pruned
    return Codebook(np.unique(np.clip(np.rint(centers), -LARGEST, LARGEST).astype(np.int64)))


def fitted_scales(rows: Doubles, codebook: Codebook, importance: Doubles, *, one: bool = False) -> Doubles:
    """[outputs] scales, or [1] for all: of 27 clippings of the largest weight the one with the least weighted error."""
    largest = np.maximum(np.abs(rows).max(axis=1), 1e-12)
    if one:
        largest = np.full(len(rows), largest.max())
    best, chosen = np.full(len(rows), np.inf), largest / codebook.largest
    for clip in _CLIPS:
        scales = largest * clip / codebook.largest
        found = codebook.nearest(rows / scales[:, None]) * scales[:, None]
        errors = (np.square(found - rows) * importance).sum(axis=1)
        if one:
            errors = np.full(len(rows), errors.sum())
        better = errors < best
        best, chosen = np.where(better, errors, best), np.where(better, scales, chosen)
    return np.asarray(chosen[:1] if one else chosen)
