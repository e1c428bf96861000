"""Which frontend a path takes, by its content."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from edgeloop.errors import RefusedError, UsageError
from edgeloop_converters.frontends import detect, to_float_tflite


def test_the_content_decides_not_the_suffix(tmp_path: Path, digits_tflite: Path) -> None:
    renamed = tmp_path / "model.h5"
    renamed.write_bytes(digits_tflite.read_bytes())
    assert detect(renamed) == "tflite"
    hdf5 = tmp_path / "model.bin"
    hdf5.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert detect(hdf5) == "h5"
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("config.json", "{}")
    assert detect(tmp_path / "model.zip") == "keras"
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    assert detect(tmp_path / "saved") == "saved_model"


def test_what_is_not_supported_says_what_is(tmp_path: Path) -> None:
    for name, words in (("m.doc", "not a model"), ("model", "not a model")):
        path = tmp_path / name
        path.write_bytes(b"something else entirely")
        with pytest.raises(UsageError, match=words) as caught:
            detect(path)
        assert "SavedModel" in str(caught.value.hint)
    with pytest.raises(UsageError, match="no such model"):
        detect(tmp_path / "absent.h5")
    with pytest.raises(UsageError, match=r"without saved_model\.pb"):
        detect(tmp_path)


@pytest.mark.parametrize("name", ["m.tflite", "m.h5", "m.keras", "m.pt", "m.pth", "m.pt2", "m.onnx"])
def test_a_file_that_only_has_the_name_of_a_model_is_refused(tmp_path: Path, name: str) -> None:
    for content in (b"", b"\x00", b"garbage" * 50):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(RefusedError, match="damaged, or cut short"):
            detect(path)


def test_a_truncated_tflite_is_refused(tmp_path: Path, digits_tflite: Path) -> None:
    whole = digits_tflite.read_bytes()
    path = tmp_path / "m.tflite"
    for length in (20, 1000, len(whole) // 2, len(whole) - 200):
        path.write_bytes(whole[:length])
        with pytest.raises(RefusedError):
            to_float_tflite(path)
