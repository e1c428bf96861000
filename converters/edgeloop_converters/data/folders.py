"""Folders of images: class folders, a flat folder, a flat folder with labels.csv. Decoded with OpenCV on access."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from edgeloop.errors import DataError
from edgeloop.pictures import IMAGE_SUFFIXES, may_hold_a_picture, read_picture
from edgeloop_converters.data.dataset import IMAGE, Array, Dataset, UnreadableError

LABELS_FILE = "labels.csv"
_IDS = "a class id from 0, the place of the class in the model's output"
_MAX_LABELS_BYTES = 256 << 20
_BESIDE_DATA = ("readme", "license", "copyright", "labels.", "thumbs.db", "desktop.ini")


def open_folder(root: Path) -> Dataset:
    """Class folders (sorted by name: class ids 0, 1, ...), or images, labelled by labels.csv if that is there.

    Raises DataError for a folder that is empty or mixed.
    """
    folders, images, others = _list(root)
    labels_file = root / LABELS_FILE
    if labels_file.is_file():
        return _with_labels_file(root, labels_file)
    if folders and images:
        raise DataError(
            f"data {root}: {len(images)} loose images (such as {images[0]}) beside {len(folders)} folders",
            hint="either one folder per class, or images only",
        )
    if others:
        raise DataError(_not_images(root, others), hint="move files that are not images out of the data folder")
    if folders:
        return _class_folders(root, folders)
    if not images:
        raise DataError(f"data {root}: no images here", hint=f"read are {', '.join(IMAGE_SUFFIXES)}")
    return _dataset(root, [f"{root}/{name}" for name in images])


def read_image(path: str, at_least: tuple[int, int] | None = None) -> Array:
    """uint8 [H, W, 3] BGR; at_least: see `read_picture`. Raises UnreadableError when the file cannot be decoded."""
    try:
        return read_picture(path, at_least)
    except DataError as error:
        raise UnreadableError(error.message) from error


def decoded_for(dataset: Dataset, size: tuple[int, int] | None) -> Dataset:
    """The same picture files, decoded no larger than `size` (height, width) needs, as the device does it."""
    files = dataset.files
    if size is None or files is None or dataset.kind != IMAGE or dataset.decode_size == size:
        return dataset
    return replace(dataset, read=lambda i: read_image(files[i], size), decode_size=size)


def _class_folders(root: Path, folders: list[str]) -> Dataset:
    files: list[str] = []
    ids: list[int] = []
    for class_id, name in enumerate(folders):
        folder = root / name
        inner, images, others = _list(folder)
        if inner:
            raise DataError(
                f"data {root}: folder inside the class folder: {name}/{inner[0]}",
                hint="give the folder that holds the class folders (train/ or test/)",
            )
        if others:
            raise DataError(_not_images(folder, others), hint="move files that are not images out of the data folder")
        if not images:
            raise DataError(
                f"data {root}: class folder '{name}' holds no images", hint="remove the folder, or put images in it"
            )
        files += [f"{folder}/{image}" for image in images]
        ids += [class_id] * len(images)
    return _dataset(root, files, np.asarray(ids, np.int64), tuple(folders))


def _with_labels_file(root: Path, labels_file: Path) -> Dataset:
    where = f"data {labels_file}"
    if labels_file.stat().st_size > _MAX_LABELS_BYTES:
        raise DataError(f"{where}: larger than {_MAX_LABELS_BYTES >> 20} MiB", hint="one line file,class_id per image")
    files: list[str] = []
    ids: list[int] = []
    try:
        with labels_file.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            if not rows.fieldnames or not {"file", "class_id"} <= set(rows.fieldnames):
                raise DataError(
                    f"{where}: the first line must name the columns file,class_id",
                    hint="write file,class_id above the rows",
                )
            for row in rows:
                line = f"{where}, line {rows.line_num}"
                files.append(str(_inside(root, row["file"] or "", line)))
                ids.append(_class_id(row["class_id"], line))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{where}: {error}") from error
    if not files:
        raise DataError(f"{where}: no rows", hint="one line file,class_id per image")
    missing = [f for f in files if not Path(f).is_file()]
    if missing:
        raise DataError(
            f"{where}: {len(missing)} of {len(files)} files are not there, such as {Path(missing[0]).name}",
            hint="paths in it start at the data folder",
        )
    return _dataset(root, files, np.asarray(ids, np.int64))


def _inside(root: Path, name: str, line: str) -> Path:
    relative = PurePosixPath(name.replace("\\", "/"))
    if not name or relative.is_absolute() or ".." in relative.parts:
        raise DataError(f"{line}: '{name}' is not a file inside the data folder", hint="a path below it, with /")
    return root / relative


def _class_id(text: str | None, line: str) -> int:
    try:
        value = int(text or "")
    except ValueError:
        raise DataError(f"{line}: class_id '{text}' is not a whole number", hint=_IDS) from None
    if not 0 <= value < 1 << 31:
        raise DataError(f"{line}: class_id {value} is out of range", hint=_IDS)
    return value


def _dataset(
    root: Path, files: list[str], labels: np.ndarray | None = None, names: tuple[str, ...] | None = None
) -> Dataset:
    return Dataset(
        IMAGE,
        str(root),
        len(files),
        lambda i: read_image(files[i]),
        labels,
        names,
        describe=lambda i: files[i],
        files=tuple(files),
    )


def _list(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Names of (folders, images, other files), sorted; hidden files and READMEs do not count.

    Plain strings: for 50,000 pictures, path objects take longer than converting a small model.
    """
    folders, images, others = [], [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith((".", "__MACOSX")):
                    continue
                if entry.is_dir():
                    folders.append(name)
                elif name.lower().endswith(IMAGE_SUFFIXES) and may_hold_a_picture(entry):
                    images.append(name)
                elif not name.lower().startswith(_BESIDE_DATA):
                    others.append(name)
    except OSError as error:
        raise DataError(f"data {folder}: {error.strerror}") from error
    return sorted(folders), sorted(images), sorted(others)


def _not_images(folder: Path, others: list[str]) -> str:
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return f"data {folder}: {others[0]}{more} is not an image"
