"""Hard samples on the device: off unless asked for; which inputs are hard, and the bounds of what is kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeloop.contract import InputSpec
from edgeloop.errors import ConfigError
from edgeloop.postprocess import Result
from edgeloop.postprocess.results import ClassScore
from edgeloop.telemetry.samples.wire import (
    About,
)
from edgeloop_agent.config_reading import load_configs
from edgeloop_agent.hard_samples.choosing import AUDIT_DISAGREEMENT, LOW_CONFIDENCE, HardSamples
from edgeloop_agent.hard_samples.folder import SampleFolder
from edgeloop_agent.hard_samples.settings import HardSampleSettings
from support.agents import run_cli
from support.collecting import wait_until

ABOUT = About("png", LOW_CONFIDENCE, "ic", 3, "int8", 1e9, 0.4, '{"label": "cat"}')


def config_file(folder: Path, table: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(f'bundle = "x.bundle"\nsource = "folder:x"\n{table}')
    return path


def test_it_is_off_unless_the_config_file_says_so(tmp_path: Path) -> None:
    (config,) = load_configs({}, config_file(tmp_path, ""))
    assert config.hard_samples == HardSampleSettings()
    assert not config.hard_samples.enabled
    assert config.hard_samples.for_worker(tmp_path) is None
    (config,) = load_configs({}, config_file(tmp_path, "[hard_samples]\nenabled = true\nbelow_confidence = 0.7\n"))
    assert (config.hard_samples.enabled, config.hard_samples.below_confidence) == (True, 0.7)
    assert "--hard" not in run_cli("run", "--help").stdout, "no flag turns it on in passing"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("hard_samples = true", "is a table"),
        ("[hard_samples]\nenable = true", "no such key"),
        ("[hard_samples]\nenabled = 1", "true or false"),
        ("[hard_samples]\nmax_per_day = 0", "1 to 100000"),
        ("[hard_samples]\nmax_per_day = 1.5", "1 to 100000"),
        ("[hard_samples]\nbelow_confidence = 2", "0 to 1"),
        ("[hard_samples]\nmax_bytes = true", "must be"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, table: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_configs({}, config_file(tmp_path, table))


def sure(score: float, **more: Any) -> Result:
    rest = (1 - score) / 2
    return Result("classification", (ClassScore(1, "cat", score), ClassScore(0, "dog", rest)), **more)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 60, 3)).astype(np.uint8)


@pytest.fixture
def chooser(tmp_path: Path) -> Iterator[Callable[..., HardSamples]]:
    made: list[HardSamples] = []

    def make(
        spec: InputSpec | None = None, disagreements: Callable[[], int] = lambda: 0, **settings: Any
    ) -> HardSamples:
        spec = spec or InputSpec(kind="image", size=(20, 30))
        model = {"bundle": "ic", "version": 3, "variant": "int8", "is_rgb": False}
        made.append(
            HardSamples(
                HardSampleSettings(enabled=True, **settings),
                tmp_path / "hard",
                spec,
                **model,
                disagreements=disagreements,
            )
        )
        return made[-1]

    yield make
    for each in made:
        each.close()


def give(hard: HardSamples, frame: Any, result: Result) -> dict[str, int]:
    """What became of it."""
    hard.write("camera", 1e9, result, 1.0, frame)
    wait_until(lambda: hard._job is None, "the sample was looked at")
    assert hard.problem == ""
    return {name: count for name, count in hard.statistics().items() if count}


def test_unsure_results_keep_the_input_as_the_model_saw_it(chooser: Callable[..., HardSamples], tmp_path: Path) -> None:
    hard = chooser()
    assert give(hard, picture(1), sure(0.9)) == {}
    assert give(hard, picture(1), sure(0.4, reused=True)) == {}
    assert give(hard, picture(1), sure(0.4)) == {"hard_samples_kept": 1}
    (sample,) = SampleFolder(tmp_path / "hard").waiting()
    assert (sample.about.reason, sample.about.bundle, sample.about.version) == (LOW_CONFIDENCE, "ic", 3)
    assert sample.about.confidence == pytest.approx(0.4)
    assert json.loads(sample.about.answer)["top"][0]["label"] == "cat"
    from edgeloop.preprocess import resize

    expected = resize(picture(1), 20, 30, "stretch")
    assert np.array_equal(cv2.imread(str(sample.path), cv2.IMREAD_COLOR), expected)
    assert "camera" not in json.dumps(vars(sample.about)), "the source's name stays on the device"
    assert sample.path.stat().st_mode & 0o077 == 0


def test_what_looks_like_one_that_was_kept_is_passed_over(chooser: Callable[..., HardSamples]) -> None:
    hard = chooser()
    assert give(hard, picture(1), sure(0.4)) == {"hard_samples_kept": 1}
    assert give(hard, picture(1), sure(0.3)) == {"hard_samples_passed_over": 1}
    assert give(hard, picture(2), sure(0.3)) == {"hard_samples_kept": 1}


def test_audits_that_disagree_are_a_reason_of_their_own(chooser: Callable[..., HardSamples], tmp_path: Path) -> None:
    count = 0
    hard = chooser(disagreements=lambda: count, below_confidence=0.0)
    assert give(hard, picture(1), sure(0.1)) == {}
    count = 1
    assert give(hard, picture(2), sure(0.99)) == {"hard_samples_kept": 1}
    assert give(hard, picture(3), sure(0.99)) == {}
    assert [s.about.reason for s in SampleFolder(tmp_path / "hard").waiting()] == [AUDIT_DISAGREEMENT]


def test_a_source_may_reuse_the_memory_of_a_frame(chooser: Callable[..., HardSamples], tmp_path: Path) -> None:
    hard, frame = chooser(InputSpec(kind="image", size=(40, 60))), picture(1)
    with hard._changed:  # its thread waits, and the next frame is written over this one
        hard.write("camera", 1e9, sure(0.4), 1.0, frame)
        frame[:] = 0
    wait_until(lambda: hard._job is None, "the sample was looked at")
    (sample,) = SampleFolder(tmp_path / "hard").waiting()
    assert np.array_equal(cv2.imread(str(sample.path)), picture(1))


def test_arrays_are_kept_with_their_batch_axis(chooser: Callable[..., HardSamples], tmp_path: Path) -> None:
    hard = chooser(InputSpec(kind="tensor", shape=(4,)))
    assert give(hard, np.arange(4, dtype=np.float32), sure(0.4)) == {"hard_samples_kept": 1}
    (sample,) = SampleFolder(tmp_path / "hard").waiting()
    with np.load(sample.path) as arrays:
        assert arrays["x"].tolist() == [[0, 1, 2, 3]]


def test_the_days_quota_and_the_folders_size_hold_also_over_a_restart(
    chooser: Callable[..., HardSamples], tmp_path: Path
) -> None:
    hard = chooser(max_per_day=2)
    kept = [give(hard, picture(n), sure(0.4)).get("hard_samples_kept", 0) for n in range(4)]
    assert kept == [1, 1, 0, 0]
    assert hard._full_until_s > time.time(), "for the rest of the day nothing is looked at"
    hard.close()
    again = chooser(max_per_day=3)
    assert give(again, picture(10), sure(0.4)) == {"hard_samples_kept": 1}
    assert give(again, picture(11), sure(0.4)) == {"hard_samples_passed_over": 1}
    full = chooser(max_per_day=100, max_bytes=10_000)
    assert [give(full, picture(n), sure(0.4)).get("hard_samples_kept", 0) for n in range(20, 24)].count(1) <= 2
    assert SampleFolder(tmp_path / "hard").waiting_bytes() <= 10_000
    tomorrow = SampleFolder(tmp_path / "hard", clock=lambda: time.time() + 86400)
    assert tomorrow.kept_today() == 0
