"""Samples from .npz files, also hostile ones."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.errors import DataError, EdgeloopError, RefusedError
from edgeloop.npz import Npz
from edgeloop_converters.data import check_samples, for_inputs, open_data


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_features_labels_and_names_are_read(tmp_path: Path) -> None:
    x = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    path = save(tmp_path / "d.npz", features=x, labels=np.array([0, 1, 1, 0]), label_names=np.array(["no", "yes"]))
    data = open_data(path)
    assert (data.kind, data.sample_shape, data.class_names) == ("tensor", (3, 2), ("no", "yes"))
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 1, 0]
    assert np.array_equal(data.sample(2), x[2])


def test_compressed_and_stored_members_read_the_same(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((5, 7)).astype(np.float64)
    np.savez(tmp_path / "a.npz", x=x)
    np.savez_compressed(tmp_path / "b.npz", x=np.asfortranarray(x))
    for name in ("a.npz", "b.npz"):
        data = open_data(tmp_path / name)
        assert all(np.array_equal(data.sample(i), x[i]) for i in range(5))


def test_an_uncompressed_array_is_mapped_not_loaded(tmp_path: Path) -> None:
    path = save(tmp_path / "d.npz", x=np.ones((10, 4), np.float32))
    with Npz(path) as archive:
        assert isinstance(archive.array("x"), np.memmap)


def test_uint8_pictures_are_images_in_bgr(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), np.uint8)
    data = open_data(save(tmp_path / "d.npz", x=x))
    assert data.kind == "image"
    assert np.array_equal(data.sample(1), x[1, ..., ::-1])
    assert np.array_equal(data.as_tensors().sample(1), x[1])
    assert any("RGB" in note for note in data.notes)
    assert open_data(save(tmp_path / "g.npz", x=x[..., :1])).sample(0).shape == (5, 4)


def test_one_hot_and_float_labels_become_class_ids(tmp_path: Path) -> None:
    x = np.zeros((3, 2), np.float32)
    one_hot = open_data(save(tmp_path / "a.npz", x=x, y=np.eye(3)[[2, 0, 1]]))
    column = open_data(save(tmp_path / "b.npz", x=x, y=np.array([[2.0], [0.0], [1.0]])))
    for data in (one_hot, column):
        assert data.labels is not None
        assert data.labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": np.zeros((2, 2))}, "no samples: it holds a"),
        ({"x": np.zeros((0, 3))}, "is empty"),
        ({"x": np.zeros(())}, "is empty"),
        ({"x": np.array(["a", "b"])}, "not numbers"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(2, int)}, "3 samples but 'y' has shape"),
        ({"x": np.zeros((2, 2)), "y": np.array([0, -1])}, "negative class id"),
        ({"x": np.zeros((2, 2)), "y": np.array([0.5, 1.0])}, "not class ids"),
        ({"x": np.zeros((2, 2)), "label_names": np.zeros(2)}, "list of names"),
    ],
)
def test_wrong_contents_are_one_clear_line(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        for_inputs(open_data(save(tmp_path / "d.npz", **arrays)), ["input"])


def test_nan_is_found_and_named(tmp_path: Path) -> None:
    x = np.ones((4, 3), np.float32)
    x[2, 1] = np.nan
    with pytest.raises(DataError, match=r"sample 2 of .* holds NaN"):
        check_samples(open_data(save(tmp_path / "d.npz", x=x)))


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    marker = tmp_path / "touched"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (marker,))

    np.savez(tmp_path / "d.npz", x=np.array([Evil()], dtype=object))
    with pytest.raises(RefusedError, match="pickled"):
        open_data(tmp_path / "d.npz")
    assert not marker.exists()


def bomb(gigabytes: int = 1) -> bytes:
    buffer = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (gigabytes << 30,)}
    block = bytes(1 << 20)
    archive = zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED)
    with archive, archive.open("x.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_2_0(member, header)
        for _ in range(gigabytes << 10):
            member.write(block)
    return buffer.getvalue()


@pytest.mark.slow
def test_a_gigabyte_in_a_megabyte_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "bomb.npz"
    path.write_bytes(bomb())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RefusedError, match="looks like a bomb"):
        open_data(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def forged(header_shape: tuple[int, ...], payload: bytes, name: str = "x.npy", descr: str = "<f4") -> bytes:
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": descr, "fortran_order": False, "shape": header_shape})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, member.getvalue() + payload)
    return buffer.getvalue()


def test_a_header_that_lies_about_the_size_is_refused() -> None:
    for shape in ((1 << 40,), (100,), (1,)):
        with pytest.raises(RefusedError, match="declares"):
            Npz(forged(shape, bytes(40)))


def test_duplicates_and_strange_headers_are_refused() -> None:
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as archive:
        archive.writestr("x.npy", b"1")
        archive.writestr("x", b"2")
    with pytest.raises(RefusedError, match="two members"):
        Npz(twice.getvalue())
    with pytest.raises(RefusedError, match="pickled"):
        Npz(forged((1,), bytes(8), descr="|O"))


def test_a_damaged_checksum_is_seen(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "d.npz", x=np.random.default_rng(0).random(1000))
    data = bytearray((tmp_path / "d.npz").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "d.npz").write_bytes(bytes(data))
    with pytest.raises(EdgeloopError):
        open_data(tmp_path / "d.npz")


def valid() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.arange(64, dtype=np.float32).reshape(4, 16), y=np.array([0, 1, 2, 3]))
    return buffer.getvalue()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_corrupted_bytes_give_an_edgeloop_error_or_a_good_array(data: st.DataObject) -> None:
    raw = bytearray(valid())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    try:
        with Npz(bytes(raw)) as archive:
            for name, header in archive.headers.items():
                assert archive.array(name).nbytes == header.nbytes <= 1 << 26
    except EdgeloopError:
        pass


def test_which_of_two_arrays_the_samples_are_is_said(tmp_path: Path) -> None:
    x = np.zeros((4, 3), np.float32)
    path = save(tmp_path / "d.npz", features=x + 1, x=x)
    data = for_inputs(open_data(path), ["input"])
    assert data.sample(0).max() == 0
    assert data.notes == (f"data {path}: the samples are 'x', not 'features'",)
    assert for_inputs(open_data(path), ["x", "features"]).notes == ()


def test_an_array_called_as_the_input_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    x = np.zeros((4, 3), np.float32)
    path = save(tmp_path / "d.npz", ids=x + 1, x=x)
    data = for_inputs(open_data(path), ["serving_default_ids:0"])
    assert data.notes == (f"data {path}: the samples are 'x', not 'ids'",)


@pytest.mark.parametrize(
    "y",
    [np.arange(3), np.array(["a"] * 4), np.array([0, -1, 0, 1]), np.full(4, 0.5), np.zeros((4, 2)), np.array([])],
    ids=["another length", "names", "negative", "fractions", "not one-hot", "empty"],
)
def test_labels_that_are_no_class_ids_say_what_they_should_be(tmp_path: Path, y: np.ndarray) -> None:
    path = save(tmp_path / "d.npz", x=np.zeros((4, 3), np.float32), y=y)
    with pytest.raises(DataError) as caught:
        open_data(path)
    assert caught.value.hint is not None and "class ids are whole numbers from 0" in caught.value.hint
