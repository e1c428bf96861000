"""golden.npz: nothing is allocated that the signed manifest did not announce, no pickle is ever read."""

from __future__ import annotations

import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from edgeloop.bundle import Bundle
from edgeloop.bundle.golden import Golden, decode_golden, encode_golden
from edgeloop.bundle.manifest import GOLDEN_DTYPES
from edgeloop.bundle.npz import npy_header, read_npz, write_npz
from edgeloop.errors import DataError, RefusedError
from support.bundles import forge, members_of, pack_zip, replace_member, taken_apart


def with_npz(bundle, key, trust, raw, change=lambda manifest: None):
    manifest, members = taken_apart(bundle)
    replace_member(manifest, members, "golden.npz", raw)
    change(manifest)
    forge(bundle, key, manifest, members)
    return Bundle.open(bundle, trust=trust)


def good_arrays(bundle):
    with zipfile.ZipFile(io.BytesIO(members_of(bundle)["golden.npz"])) as file:
        return {info.filename: file.read(info) for info in file.infolist()}


def npz_of(members):
    return pack_zip(members.items(), zipfile.ZIP_STORED)


def as_npy(array, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", GOLDEN_DTYPES)
@pytest.mark.parametrize("shape", [(1,), (3,), (2, 3), (4, 1, 0), (1, 2, 3, 4, 5)])
def test_headers_are_what_numpy_reads(dtype, shape):
    array = np.zeros(shape, dtype)
    raw = write_npz({"a": array})
    with np.load(io.BytesIO(raw), allow_pickle=False) as loaded:
        assert loaded["a"].dtype == array.dtype
        assert loaded["a"].shape == shape
    assert (len(npy_header(dtype, shape))) % 64 == 0


def test_arrays_in_any_layout_come_back_with_their_values():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(3, 4, 5)).astype(">f4")
    golden = Golden(
        {"a": base.transpose(0, 2, 1), "b": np.asfortranarray(rng.integers(0, 255, (3, 2), np.uint8))},
        {"v": {"litert": [base[:, ::-1].astype(np.float32)]}},
        {"litert": 1.0},
    )
    back = decode_golden(*encode_golden(golden))
    assert np.array_equal(back.inputs["a"], golden.inputs["a"])
    assert np.array_equal(back.inputs["b"], golden.inputs["b"])
    assert np.array_equal(back.outputs["v"]["litert"][0], golden.outputs["v"]["litert"][0])


def test_samples_that_cannot_be_kept_are_data_errors():
    ones = np.ones((2, 3), np.float32)
    for golden in (
        Golden({}, {}, {}),
        Golden({"": np.ones((0, 3), np.float32)}, {}, {}),
        Golden({"": ones.astype(np.float64)}, {}, {}),
        Golden({"": np.array([None, 1])}, {}, {}),
        Golden({"": ones, "b": ones[:1]}, {}, {}),
        Golden({"": ones}, {"v": {"litert": [ones.astype(np.int8)]}}, {}),
        Golden({"": np.broadcast_to(np.float32(0), (1 << 13, 1 << 13))}, {}, {}),
    ):
        with pytest.raises(DataError, match="golden samples"):
            encode_golden(golden)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("pickle-was-run",)


def test_a_pickled_array_is_refused_and_not_run(bundle, key, trust, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    objects = np.empty((3, 4), object)
    objects[:] = Evil()
    for raw in (as_npy(objects, allow_pickle=True), pickle.dumps(Evil())):
        opened = with_npz(bundle, key, trust, npz_of({**good_arrays(bundle), "input_0.npy": raw}))
        with pytest.raises(RefusedError, match="input_0"):
            opened.golden()
    assert not (tmp_path / "pickle-was-run").exists()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float64).reshape(3, 4), np.arange(12, dtype=">f4").reshape(3, 4),
        np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)), np.arange(12, dtype=np.float32),
        np.arange(12, dtype=np.int32).reshape(3, 4), np.zeros((4, 3), np.float32),
    ],
)  # fmt: skip
def test_another_type_order_or_shape_than_the_manifest_says_is_refused(bundle, key, trust, array):
    opened = with_npz(bundle, key, trust, npz_of({**good_arrays(bundle), "input_0.npy": as_npy(array)}))
    with pytest.raises(RefusedError, match="input_0"):
        opened.golden()


def test_a_header_that_claims_a_gigabyte_is_refused(bundle, key, trust):
    huge = npy_header("uint8", (3, 1 << 28)) + b"\0" * 64
    opened = with_npz(bundle, key, trust, npz_of({**good_arrays(bundle), "input_0.npy": huge}))
    with pytest.raises(RefusedError, match="input_0"):
        opened.golden()


@pytest.mark.parametrize("shape", [[3, 1 << 28], [1 << 40], [3] * 9, [3, -1], [0, 4], [], [3, 4.0], "34", [1 << 70, 0]])
def test_a_manifest_that_announces_too_much_is_refused(bundle, key, trust, shape):
    def change(manifest):
        manifest["golden"]["arrays"][0]["shape"] = shape

    with pytest.raises(RefusedError):
        with_npz(bundle, key, trust, npz_of(good_arrays(bundle)), change)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dtype", "object"),
        ("dtype", "float64"),
        ("dtype", "U100"),
        ("array", "../x"),
        ("array", "output_0"),
        ("input", 5),
    ],
)
def test_array_entries_that_no_writer_makes_are_refused(bundle, key, trust, field, value):
    def change(manifest):
        manifest["golden"]["arrays"][0][field] = value

    with pytest.raises(RefusedError):
        with_npz(bundle, key, trust, npz_of(good_arrays(bundle)), change)


def test_arrays_too_many_missing_or_compressed_are_refused(bundle, key, trust):
    good = good_arrays(bundle)
    short = {name: content for name, content in good.items() if name != "output_0.npy"}
    deflated = pack_zip(good.items(), zipfile.ZIP_DEFLATED)
    for raw in (
        npz_of({**good, "more.npy": as_npy(np.zeros(3))}),
        npz_of(short),
        deflated,
        b"",
        b"PK",
        npz_of(good)[:-1],
    ):
        with pytest.raises(RefusedError, match=r"golden\.npz"):
            with_npz(bundle, key, trust, raw).golden()


def test_a_bomb_in_the_inner_zip_cannot_be_deflated(bundle, key, trust):
    bomb = npy_header("uint8", (1, 1 << 28)) + bytes(1 << 20)
    opened = with_npz(bundle, key, trust, pack_zip({"input_0.npy": bomb}.items(), zipfile.ZIP_DEFLATED))
    with pytest.raises(RefusedError, match="compression method"):
        opened.golden()


def test_reading_needs_every_byte(bundle):
    index = Bundle.open(bundle).manifest.golden
    raw = members_of(bundle)["golden.npz"]
    read_npz(raw, index.arrays)
    for size in range(0, len(raw), 37):
        with pytest.raises(RefusedError):
            read_npz(raw[:size], index.arrays)
