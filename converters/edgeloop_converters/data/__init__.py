"""Data for calibration and evaluation: a folder of images, an .npz, or code of the user's own.

open_data("calib/")              class folders, a flat folder, or a folder with labels.csv
open_data("kws.npz")             x or features (or an array per input), y or labels, optional label_names
open_data("package.module:function")
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgeloop.errors import DataError
from edgeloop.paths import missing_hint
from edgeloop_converters.data.dataset import (
    IMAGE,
    NAMED,
    TENSOR,
    Dataset,
    Split,
    check_samples,
    pick,
    pick_stratified,
    split,
)
from edgeloop_converters.data.labels import fit_labels
from edgeloop_converters.data.named import for_inputs

__all__ = [
    "IMAGE", "NAMED", "TENSOR", "Dataset", "Split", "check_samples", "fit_labels", "for_inputs", "open_data", "pick",
    "pick_stratified", "split",
]  # fmt: skip


_FORMS = "give a folder of images, an .npz, or package.module:function"


def open_data(spec: str | Path) -> Dataset:
    """Open `--data` or `--eval`. Nothing is decoded yet. Raises DataError (missing, empty, mixed, damaged)."""
    return _loader(str(spec))(str(spec))


def _loader(spec: str) -> Callable[[str], Dataset]:
    path = Path(spec)
    if path.is_dir():
        from edgeloop_converters.data.folders import open_folder

        return lambda text: open_folder(Path(text))
    if path.is_file():
        if path.suffix.lower() == ".npz":
            from edgeloop_converters.data.npz import open_npz_data

            return lambda text: open_npz_data(Path(text))
        raise DataError(f"data {spec}: {_what_is(path)}", hint=_FORMS)
    module, colon, function = spec.partition(":")
    if colon and "/" not in spec and all(p.isidentifier() for p in [*module.split("."), function]):
        from edgeloop_converters.data.functions import open_function

        return open_function
    raise DataError(
        f"data {spec}: no such file or folder",
        hint=missing_hint(path)
        or "paths start at the current folder, those in a recipe, too: start where the files are, or --data DIR",
    )


def _what_is(path: Path) -> str:
    return f"a '{path.suffix}' file is not something to read samples from" if path.suffix else "not an .npz file"
