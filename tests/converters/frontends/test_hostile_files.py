"""Keras files made to do harm: nothing of them runs, nothing large is unpacked."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from edgeloop.errors import EdgeloopError, RefusedError, UsageError
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.frontends.file_scan import scan_h5, scan_keras_zip

pytestmark = pytest.mark.tensorflow  # h5py comes with the keras extra

_LAMBDA = {"class_name": "Lambda", "config": {"name": "sneaky", "function": ["4wEA", None, None]}}


def h5_bytes(fill: Callable[[h5py.File], Any]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        fill(file)
    return buffer.getvalue()


def keras_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def good_members() -> dict[str, bytes]:
    weights = h5_bytes(lambda f: f.create_dataset("w", data=np.ones(4, np.float32)))
    return {"metadata.json": b"{}", "config.json": b'{"class_name": "Functional", "config": {}}',
            "model.weights.h5": weights}  # fmt: skip


def test_a_harmless_file_passes(tmp_path: Path) -> None:
    assert scan_keras_zip(keras_zip(tmp_path / "m.keras", good_members())) == {}


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil"])
def test_members_that_point_outside_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RefusedError, match="points outside"):
        scan_keras_zip(keras_zip(tmp_path / "m.keras", {**good_members(), name: b"x"}))


def test_members_of_the_same_name_are_refused(tmp_path: Path) -> None:
    path = keras_zip(tmp_path / "m.keras", good_members())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("config.json", json.dumps(_LAMBDA))
    with pytest.raises(RefusedError, match="two members"):
        scan_keras_zip(path)


def test_a_bomb_is_refused_unread(tmp_path: Path) -> None:
    members = {**good_members(), "assets/x": bytes(80 << 20)}
    with pytest.raises(RefusedError, match="would unpack"):
        scan_keras_zip(keras_zip(tmp_path / "m.keras", members, zipfile.ZIP_DEFLATED))


def test_a_dataset_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        file.create_dataset("w", (1 << 30,), np.float32, chunks=True, compression="gzip")

    with pytest.raises(RefusedError, match="would unpack"):
        scan_keras_zip(keras_zip(tmp_path / "m.keras", {**good_members(), "model.weights.h5": h5_bytes(fill)}))


def links_to_another_file(file: h5py.File) -> None:
    file["w"] = h5py.ExternalLink("/etc/passwd", "/x")


def data_in_another_file(file: h5py.File) -> None:
    file.create_dataset("w", (4,), "u1", external=[("/etc/passwd", 0, 4)])


@pytest.mark.parametrize("fill", [links_to_another_file, data_in_another_file])
def test_hdf5_that_reaches_into_other_files_is_refused(tmp_path: Path, fill: Callable[[h5py.File], Any]) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(h5_bytes(fill))
    with pytest.raises(RefusedError, match=r"somewhere else|another file"):
        scan_h5(path)


def test_configs_that_are_no_json_are_refused(tmp_path: Path) -> None:
    for config in (b"\xff\xfe", b"{", b"[" * 100_000):
        with pytest.raises(RefusedError, match="not JSON"):
            scan_keras_zip(keras_zip(tmp_path / "m.keras", {**good_members(), "config.json": config}))


def test_a_lambda_in_either_format_is_refused_before_tensorflow_is_loaded(tmp_path: Path) -> None:
    config = {"class_name": "Sequential", "config": {"name": "m", "layers": [_LAMBDA]}}
    zipped = keras_zip(tmp_path / "m.keras", {**good_members(), "config.json": json.dumps(config).encode()})
    h5 = tmp_path / "m.h5"
    h5.write_bytes(h5_bytes(lambda f: f.attrs.__setitem__("model_config", json.dumps(config))))
    for path in (zipped, h5):
        with pytest.raises(RefusedError, match="layer 'sneaky' is a Lambda layer"):
            to_float_tflite(path)


def test_weights_without_a_model_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    path.write_bytes(h5_bytes(lambda f: f.create_dataset("w", data=np.ones(3))))
    with pytest.raises(UsageError, match="holds weights but no model"):
        scan_h5(path)


def test_truncated_files_are_refused_in_one_line(tmp_path: Path) -> None:
    whole = h5_bytes(lambda f: f.create_dataset("w", data=np.ones(10_000)))
    path = tmp_path / "m.h5"
    for length in (8, 100, 2000, len(whole) - 10):
        path.write_bytes(whole[:length])
        with pytest.raises(EdgeloopError) as caught:
            scan_h5(path)
        assert "\n" not in str(caught.value)
    zipped = keras_zip(tmp_path / "m.keras", good_members())
    zipped.write_bytes(zipped.read_bytes()[:-30])
    with pytest.raises(EdgeloopError):
        scan_keras_zip(zipped)
