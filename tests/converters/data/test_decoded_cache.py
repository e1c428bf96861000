"""Decoded pictures on disk: the same pixels, taken again only when they are right, bounded in size."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from edgeloop.preprocess import resize
from edgeloop_converters.data import Dataset, open_data
from edgeloop_converters.data.cache import DecodedCache
from support.images import class_folders, write_image

SIZE = (6, 7)
FRAME_BYTES = 6 * 7 * 3


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "pictures", {"cat": 3, "dog": 3})


def read_all(dataset: Dataset) -> np.ndarray:
    return np.stack([dataset.sample(i) for i in range(len(dataset))])


def run(pictures: Path, how: str = "stretch", **options: int) -> tuple[np.ndarray, dict[str, int]]:
    """One conversion's worth of reading: every sample twice."""
    with DecodedCache(**options) as cache:
        dataset = cache.attach(open_data(pictures), SIZE, how)
        frames = read_all(dataset)
        assert (read_all(dataset) == frames).all()
        return frames, cache.to_dict()


def only(pattern: str, home: Path) -> Path:
    (path,) = (home / "cache" / "decoded").glob(f"*/{pattern}")
    return path


@pytest.mark.parametrize("how", ["stretch", "letterbox", "crop"])
def test_the_second_run_decodes_nothing_and_sees_the_same_pixels(pictures: Path, how: str) -> None:
    raw = open_data(pictures)
    expected = np.stack([resize(raw.sample(i), *SIZE, how) for i in range(6)])
    first, counts = run(pictures, how)
    assert (first == expected).all()
    assert counts == {"hits": 0, "misses": 6}
    second, counts = run(pictures, how)
    assert (second == expected).all()
    assert counts == {"hits": 6, "misses": 0}


def test_another_size_or_way_is_another_entry(pictures: Path) -> None:
    run(pictures)
    assert run(pictures, "crop")[1] == {"hits": 0, "misses": 6}
    assert run(pictures)[1] == {"hits": 6, "misses": 0}


def test_a_picture_that_was_written_again_is_decoded_again(pictures: Path) -> None:
    run(pictures)
    changed = pictures / "dog" / "001.png"
    before = changed.stat()
    write_image(changed, seed=999)
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    frames, counts = run(pictures)
    assert counts == {"hits": 5, "misses": 1}
    assert (frames[4] == resize(open_data(pictures).sample(4), *SIZE, "stretch")).all()


def test_another_list_of_files_is_another_entry(pictures: Path) -> None:
    run(pictures)
    write_image(pictures / "cat" / "zzz.png", seed=5)
    assert run(pictures)[1] == {"hits": 0, "misses": 7}


@pytest.mark.parametrize("at", [0, FRAME_BYTES * 2 + 5])
def test_a_damaged_frame_is_made_anew(pictures: Path, edgeloop_home: Path, at: int) -> None:
    expected, _ = run(pictures)
    path = only("*.frames", edgeloop_home)
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)
    frames, counts = run(pictures)
    assert (frames == expected).all()
    assert counts == {"hits": 5, "misses": 1}
    assert run(pictures)[1] == {"hits": 6, "misses": 0}


@pytest.mark.parametrize("pattern", ["*.frames", "*.index"])
@pytest.mark.parametrize("content", [b"", b"rubbish" * 100])
def test_files_that_are_no_cache_are_made_anew(
    pictures: Path, edgeloop_home: Path, pattern: str, content: bytes
) -> None:
    expected, _ = run(pictures)
    only(pattern, edgeloop_home).write_bytes(content)
    frames, counts = run(pictures)
    assert (frames == expected).all()
    assert counts == {"hits": 0, "misses": 6}
    assert run(pictures)[1] == {"hits": 6, "misses": 0}


def test_the_least_recently_used_entry_goes_first(tmp_path: Path) -> None:
    folders = [class_folders(tmp_path / name, {"a": 40, "b": 40}) for name in ("one", "two", "three")]
    for folder in folders[:2]:
        run(folder)
    run(folders[0])
    room_for_two = 2 * _allocated(tmp_path / "edgeloop-home") // 2
    run(folders[2], limit_bytes=room_for_two)
    assert run(folders[0])[1]["misses"] == 0
    assert run(folders[1])[1]["hits"] == 0


def _allocated(home: Path) -> int:
    return sum(p.stat().st_blocks * 512 for p in home.rglob("*.*") if p.is_file())


def test_no_more_is_written_than_there_is_room_for(pictures: Path) -> None:
    expected, _ = run(pictures, limit_bytes=3 * FRAME_BYTES)
    frames, counts = run(pictures, limit_bytes=1 << 20)
    assert (frames == expected).all()
    assert counts == {"hits": 3, "misses": 3}


def test_a_cache_that_cannot_be_written_is_done_without(pictures: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with DecodedCache(blocked) as cache:
        data = open_data(pictures)
        assert cache.attach(data, SIZE, "stretch") is data
        assert cache.to_dict() == {"hits": 0, "misses": 0}


def test_arrays_are_not_cached(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 8, 8, 3), np.uint8))
    data = open_data(tmp_path / "d.npz")
    with DecodedCache() as cache:
        assert cache.attach(data, SIZE, "stretch") is data
        assert not cache.knows(data, [0])


def test_it_knows_what_need_not_be_read_ahead(pictures: Path) -> None:
    with DecodedCache() as cache:
        raw = open_data(pictures)
        attached = cache.attach(raw, SIZE, "stretch")
        attached.sample(1), attached.sample(4)
        assert cache.knows(raw, [1, 4])
        assert not cache.knows(raw, [1, 2])
        write_image(pictures / "cat" / "001.png", seed=77)
        assert not cache.knows(raw, [1, 4])


def test_threads_may_share_it(pictures: Path) -> None:
    expected, _ = run(pictures)
    with DecodedCache() as cache:
        dataset = cache.attach(open_data(pictures), SIZE, "crop")
        results: list[np.ndarray] = []
        threads = [threading.Thread(target=lambda: results.append(read_all(dataset))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all((r == results[0]).all() for r in results)
        assert cache.to_dict() == {"hits": 0, "misses": 6}
    assert run(pictures, "crop")[1] == {"hits": 6, "misses": 0}
    assert (run(pictures)[0] == expected).all()
