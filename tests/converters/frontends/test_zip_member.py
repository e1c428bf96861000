"""Members of a zip that can be read anywhere at once, stored or compressed."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeloop_converters.frontends.zip_member import seekable

CONTENT = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_it_reads_what_was_put_in_in_any_order(tmp_path: Path, method: int) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("first", b"x" * 1000)
        archive.writestr("weights.h5", CONTENT, compress_type=method)
        archive.writestr("last", b"y" * 1000)
    with zipfile.ZipFile(path) as archive, seekable(archive, path, "weights.h5") as stream:
        assert stream.seek(0, io.SEEK_END) == len(CONTENT)
        for start in (90_000, 10, 99_999, 0):
            stream.seek(start)
            assert stream.read(50) == CONTENT[start : start + 50]
        stream.seek(0)
        assert stream.read() == CONTENT and stream.read(10) == b""


def test_a_local_header_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights.h5", CONTENT)
    with zipfile.ZipFile(path) as archive:
        archive.getinfo("weights.h5").header_offset = path.stat().st_size
        with pytest.raises(zipfile.BadZipFile, match="has no local header"):
            seekable(archive, path, "weights.h5")
