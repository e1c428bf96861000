"""The source of `run` that lies on this host: what of it is copied, and what is said before anything is."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

from edgeloop.contract import InputSpec
from edgeloop.devices.connection import Completed
from edgeloop.devices.trial_source import find_source, put_source
from edgeloop.errors import DataError
from edgeloop.progress import SilentProgress
from edgeloop_agent.sources import Wanted, open_source, parse_source
from support.images import write_image

WANTED = Wanted(InputSpec(kind="image", size=(8, 8)), (1, 8, 8, 3), np.dtype(np.uint8), 0.0, 1.0)


class Recorder:
    """In place of a device: keeps the names in the tar that it is sent."""

    url = "recorder:"
    names: list[str]

    def run(self, argv: list[str], *, stdin: Iterable[bytes] = (), timeout_s: float = 0) -> Completed:
        with tarfile.open(fileobj=io.BytesIO(b"".join(stdin))) as archive:
            self.names = archive.getnames()
        return Completed(0, b"", b"")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/2.png", "b/10.png", "a/1.PNG", "0.jpg"):
        write_image(tmp_path / "pictures" / name)
    (tmp_path / "pictures/0-everything.zip").write_bytes(bytes(1000))
    (tmp_path / "pictures/00.png").symlink_to("nowhere.png")
    return tmp_path / "pictures"


def taken_by_the_agent(folder: Path, count: int) -> list[str]:
    source = open_source(parse_source(f"folder:{folder}"), WANTED)
    items: list[Any] = [source.read() for _ in range(count)]
    return [item[1] for item in items if item is not None]


@pytest.mark.parametrize("count", [1, 3, 9, None])
def test_only_the_pictures_that_the_agent_takes_are_copied(folder: Path, count: int | None) -> None:
    device, found = Recorder(), find_source(f"folder:{folder}", count)
    assert found is not None
    there = put_source(device, found, PurePosixPath("/trial"), SilentProgress())  # type: ignore[arg-type]
    assert there == "folder:/trial/source/pictures"
    assert device.names == taken_by_the_agent(folder, count or 9)


def test_what_is_no_file_is_left_to_the_agent() -> None:
    assert [find_source(text, None) for text in ("synthetic:?seed=2", "telepathy:x", "npz:")] == [None, None, None]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("folder:{}/nope", "no such folder on this host"),
        ("video:{}/nope.mp4", "no such file on this host"),
        ("npz:{}", "not a file"),
        ("folder:{}/0.jpg", "not a folder"),
        ("folder:{}/empty", "no images here"),
    ],
)
def test_a_mistyped_source_is_said_here(folder: Path, source: str, says: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=says):
        find_source(source.format(folder), None)


def test_options_of_a_file_go_along_and_a_watched_folder_stays_where_it_is(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "v.avi").write_bytes(b"x")
    monkeypatch.setattr("edgeloop.devices.trial_source.put_file", lambda *_a, **_k: None)
    device, found = Recorder(), find_source(f"video:{tmp_path}/v.avi?live=1", None)
    assert found is not None
    there = put_source(device, found, PurePosixPath("/trial"), SilentProgress())  # type: ignore[arg-type]
    assert there == "video:/trial/source/v.avi?live=1"
    with pytest.raises(DataError, match="a copy changes no more"):
        find_source(f"folder:{folder}?watch=1", None)
    assert find_source("camera:0", None) is None
