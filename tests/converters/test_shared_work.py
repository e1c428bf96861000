"""Trials of one conversion share what they know of the model."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.progress import SilentProgress
from edgeloop.targets import load_target
from edgeloop_converters.data import open_data
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.float_passes import Setting, run_float_passes
from edgeloop_converters.passes.pruning import survey
from edgeloop_converters.recipe_steps import PassStep
from edgeloop_converters.shared_work import Around, SharedWork, key_of

CONTRACT = Contract(
    (InputSpec("image", "image", (8, 8), "gray", None, (0.0,), (255.0,)),),
    OutputSpec("classification", tuple("0123456789")),
)


def test_a_value_is_made_once_and_what_was_opened_is_closed_at_the_end() -> None:
    said: list[str] = []

    @contextmanager
    def opened():  # type: ignore[no-untyped-def]
        said.append("open")
        yield 7
        said.append("closed")

    with SharedWork() as work:
        assert [work.opened("a", opened) for _ in range(2)] == [7, 7]
        assert said == ["open"]
    assert said == ["open", "closed"]


def test_keys_tell_models_and_options_apart() -> None:
    assert key_of(b"a", {"x": 1, "y": 2}) == key_of(b"a", {"y": 2, "x": 1})
    assert len({key_of(b"a", 1), key_of(b"b", 1), key_of(b"a", 2)}) == 3


def test_channels_are_looked_at_once_for_all_ratios(
    digits_tflite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, looked = load_split(), []
    np.savez(tmp_path / "d.npz", x=split.train_images[:64], y=split.train_labels[:64])
    measure = survey.output_losses
    monkeypatch.setattr(survey, "output_losses", lambda *a, **k: looked.append(1) or measure(*a, **k))
    model = digits_tflite.read_bytes()
    setting = Setting(
        CONTRACT, open_data(str(tmp_path / "d.npz")), np.arange(64), load_target("rpi4"), 0, SilentProgress(), model,
        Around(),
    )  # fmt: skip
    sizes = [len(run_float_passes(model, [PassStep("prune", {"goal": g})], setting).tflite) for g in (0.8, 0.5, 0.8)]
    assert len(looked) == 1
    assert sizes[0] == sizes[2] > sizes[1]
