"""JPEG files decoded no larger than the model needs: how small, host and device alike, and where it is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.errors import ConfigError, DataError
from edgeloop.pictures import decode_picture, read_picture, reduction
from edgeloop.preprocess import resize
from edgeloop_agent.sources import Wanted, open_source, parse_source
from edgeloop_converters.contract_inputs import read_by
from edgeloop_converters.data import open_data
from edgeloop_converters.data.cache import DecodedCache

SCALED = InputSpec(kind="image", size=(60, 60), scaled_decode=True)


def photo(height: int, width: int) -> np.ndarray:
    """Smooth, as a photograph is: JPEG keeps it."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))


def jpeg(height: int, width: int, *flags: int) -> bytes:
    return bytes(cv2.imencode(".jpg", photo(height, width), [cv2.IMWRITE_JPEG_QUALITY, 95, *flags])[1])


@pytest.mark.parametrize(
    ("size", "at_least", "by"),
    [((480, 640), (224, 224), 2), ((480, 640), (60, 60), 8), ((480, 640), (241, 60), 1), ((100, 999), (50, 50), 2)],
)
def test_a_jpeg_is_as_small_as_it_may_be(size: tuple[int, int], at_least: tuple[int, int], by: int) -> None:
    for progressive in ((), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)):
        data = jpeg(*size, *progressive)
        assert reduction(data, at_least) == by
        found = decode_picture(data, "x", at_least)
        assert found.shape == (-(-size[0] // by), -(-size[1] // by), 3)
        whole = resize(decode_picture(data, "x"), *found.shape[:2], "stretch").astype(int)
        assert np.abs(found - whole).mean() < 2


def test_other_formats_and_what_is_damaged_are_as_ever() -> None:
    png = bytes(cv2.imencode(".png", photo(480, 640))[1])
    assert decode_picture(png, "x", (60, 60)).shape == (480, 640, 3)
    with pytest.raises(DataError, match="cut off"):
        decode_picture(jpeg(480, 640)[:-500], "x", (60, 60))


@given(st.binary(max_size=60))
def test_no_bytes_are_too_odd_for_a_header(tail: bytes) -> None:
    for data in (tail, b"\xff\xd8" + tail, b"\xff\xd8\xff\xc0" + tail):
        assert reduction(data, (1, 1)) in (1, 2, 4, 8)


def test_host_and_device_decode_alike(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jpg").write_bytes(jpeg(480, 640))
    frame, _ = open_source(parse_source(f"folder:{tmp_path / 'data'}"), wanted(SCALED)).read() or (None, "")
    assert frame.shape == (60, 80, 3)
    data = read_by(SCALED, open_data(tmp_path / "data"))
    np.testing.assert_array_equal(data.sample(0), frame)
    with DecodedCache(tmp_path / "cache") as cache:
        whole = cache.attach(open_data(tmp_path / "data"), (60, 60), "stretch").sample(0)
        kept = cache.attach(data, (60, 60), "stretch")
        np.testing.assert_array_equal(kept.sample(0), resize(frame, 60, 60, "stretch"))
        np.testing.assert_array_equal(whole, resize(read_picture(str(tmp_path / "data/a.jpg")), 60, 60, "stretch"))
        assert read_by(SCALED, kept) is kept


def wanted(spec: InputSpec) -> Wanted:
    return Wanted(spec, (1, 60, 60, 3), np.dtype(np.int8), 0.0, 1.0)


def test_the_contract_says_it_and_refuses_it_where_places_count() -> None:
    contract = Contract((SCALED,), OutputSpec("classification"))
    assert Contract.from_dict(contract.to_dict()) == contract
    assert "scaled_decode" not in Contract((InputSpec(),)).to_dict()["inputs"][0]
    with pytest.raises(ConfigError, match="does not go with a detection output"):
        Contract((SCALED,), OutputSpec("detection"))
    with pytest.raises(ConfigError, match="for images"):
        InputSpec(scaled_decode=True)
