"""The same sample twice: exactly, or nearly (another size, another compression, brighter), and across data sets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeloop_converters.check_data.finding import NOTE, SEVERE, WARNING, Finding
from edgeloop_converters.check_data.observe import Observed, Sample

_HASH_DISTANCE = 3
_THUMB_DIFFERENCE = 4.0
_MIN_CONTRAST = 4.0
_MIN_VALUES = 64
_BUCKET = 64
_MANY = 0.05
_LEAK_WARNS = 0.01
_LEAK_IS_SEVERE = 0.10
_OTHER_LABEL_WARNS = 0.01
_OF_ONE = "remove the copies from the data, or evaluate on others: --eval DIR"
_OF_TWO = "evaluate on samples that were not calibrated with: --eval DIR, or only --data and let it be split"


def duplicate_findings(observed: Observed, role: str) -> list[Finding]:
    """Inside one data set."""
    pairs = exact_pairs(observed.samples)
    found: list[Finding] = []
    if pairs:
        found.append(_repeated("duplicates", pairs, observed, role, "are exact copies of others"))
        labels = observed.labels
        if labels is not None:
            clash = [(a, b) for a, b in pairs if labels[a] != labels[b]]
            if clash:
                a, b = clash[0]
                share = len(clash) / len(labels)
                found.append(
                    Finding(
                        "labels",
                        WARNING if share > _OTHER_LABEL_WARNS else NOTE,
                        f"{len(clash)} samples are copies of others under another label, such as {observed.name(b)} "
                        f"({labels[b]}) and {observed.name(a)} ({labels[a]})",
                        "correct the labels, or remove the copies",
                        {"count": len(clash), "share": share},
                    )
                )
    near = near_pairs(observed.samples)
    if near:
        found.append(_repeated("near duplicates", near, observed, role, "look nearly the same as others"))
    return found


def leak_findings(calibration: Observed, evaluation: Observed, *, is_split: bool = False) -> list[Finding]:
    """Samples that calibrate and are evaluated as well. is_split: both are parts of the same data, which then hold
    copies.
    """
    if not calibration.samples or not evaluation.samples:
        return []
    both = (*calibration.samples, *evaluation.samples)
    border = len(calibration.samples)
    exact = {(a, b) for a, b in exact_pairs(both, border) if a < border <= b}
    near = {(a, b) for a, b in near_pairs(both, border) if a < border <= b}
    found = []
    for check, pairs, how in (("leak", exact, "are also"), ("near leak", near, "look nearly the same as samples")):
        copies = {b for _, b in pairs}
        if not copies:
            continue
        share = len(copies) / len(evaluation.samples)
        a, b = min(pairs)
        names = [evaluation.name(b - border), calibration.name(a)]
        example = f"{names[0]}, a name in both" if names[0] == names[1] else " and ".join(names)
        severity = WARNING if share > _LEAK_WARNS else NOTE
        if check == "leak" and share > _LEAK_IS_SEVERE:
            severity = SEVERE
        found.append(
            Finding(
                check,
                severity,
                f"{len(copies)} of {len(evaluation.samples)} evaluation samples ({share:.1%}) {how} in the calibration "
                f"data, such as {example}",
                _OF_ONE if is_split else _OF_TWO,
                {"count": len(copies), "share": share},
            )
        )
    return found


def exact_pairs(samples: Sequence[Sample], border: int = 0) -> list[tuple[int, int]]:
    """(first, later) positions of equal content; every later copy once, with the first of its kind.

    Samples of fewer than 64 values and blank ones are left out: those are alike by chance.
    """
    first: dict[bytes, int] = {}
    pairs = []
    for i, sample in enumerate(samples):
        if sample.size < _MIN_VALUES or sample.std == 0:
            continue
        known = first.setdefault(sample.digest, i)
        if known != i and (i >= border or not border):
            pairs.append((known, i))
    return pairs


def near_pairs(samples: Sequence[Sample], border: int = 0) -> list[tuple[int, int]]:
    """(first, later) positions of pictures that differ in at most 3 of 64 gradient bits and 4 gray levels of the mean
    of their thumbnails, brightness taken out; exact copies and nearly blank pictures left out.

    With at most 3 bits between them, two hashes agree in at least one of four 16-bit parts, so that only pictures that
    share one are compared. border: only pairs across it, where it is given.
    """
    rows = [i for i, s in enumerate(samples) if s.hash is not None and s.std >= _MIN_CONTRAST]
    if len(rows) < 2:
        return []
    hashes = np.asarray([samples[i].hash for i in rows], np.uint64)
    thumbs = np.stack([thumb for i in rows if (thumb := samples[i].thumb) is not None]).reshape(len(rows), -1)
    found: dict[int, int] = {}
    for shift in (0, 16, 32, 48):
        buckets: dict[int, list[int]] = defaultdict(list)
        for row, part in enumerate(((hashes >> np.uint64(shift)) & np.uint64(0xFFFF)).tolist()):
            buckets[part].append(row)
        for bucket in buckets.values():
            # A part that very many share (flat skies) tells nothing; the other three parts find the pair.
            if 1 < len(bucket) <= _BUCKET:
                _compare(np.asarray(bucket), rows, samples, hashes, thumbs, border, found)
    return sorted((a, b) for b, a in found.items())


def _compare(
    bucket: npt.NDArray[np.int64],
    rows: Sequence[int],
    samples: Sequence[Sample],
    hashes: npt.NDArray[np.uint64],
    thumbs: npt.NDArray[np.uint8],
    border: int,
    found: dict[int, int],
) -> None:
    distance = _bits(hashes[bucket][:, None] ^ hashes[bucket][None, :])
    for i, j in zip(*np.nonzero(np.triu(distance <= _HASH_DISTANCE, 1)), strict=True):
        a, b = rows[bucket[i]], rows[bucket[j]]
        if b in found or samples[a].digest == samples[b].digest or (border and not a < border <= b):
            continue
        difference = thumbs[bucket[i]].astype(np.float32) - thumbs[bucket[j]]
        if float(np.abs(difference - difference.mean()).mean()) <= _THUMB_DIFFERENCE:
            found[b] = a


def _bits(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """How many bits are set in each."""
    as_bytes = np.ascontiguousarray(values).view(np.uint8).reshape(*values.shape, 8)
    return np.asarray(np.unpackbits(as_bytes, axis=-1).sum(axis=-1), np.int64)


def _repeated(check: str, pairs: Sequence[tuple[int, int]], observed: Observed, role: str, how: str) -> Finding:
    share = len(pairs) / len(observed.samples)
    a, b = pairs[0]
    return Finding(
        check,
        WARNING if share > _MANY else NOTE,
        f"{len(pairs)} of {len(observed.samples)} {role} samples ({share:.1%}) {how}, such as {observed.name(b)} and "
        f"{observed.name(a)}",
        "keep one of each: copies count twice in every number",
        {"count": len(pairs), "share": share},
    )
