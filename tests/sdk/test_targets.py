"""The target table and targets of the user's own."""

from __future__ import annotations

import pytest

from edgeloop import paths
from edgeloop.errors import ConfigError, UsageError
from edgeloop.targets import TARGETS, load_target

DOCUMENTED = [
    "rpi-zero2w", "rpi3", "rpi4", "rpi5", "coral-usb", "coral-dev-board",
    "generic-x86-64", "generic-aarch64", "generic-armv7",
]  # fmt: skip


def test_every_documented_target_is_there():
    assert list(TARGETS) == DOCUMENTED


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_last_delegate_of_every_target_is_the_cpu(name):
    assert load_target(name).delegates[-1] == "cpu"


def test_a_target_of_the_users_own_starts_from_a_known_one(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "rpi4"\nname = "My board"\nram_bytes = 8589934592\n')
    mine = load_target(str(path))
    assert (mine.id, mine.name, mine.ram_bytes, mine.cpu) == ("mine", "My board", 8 << 30, "cortex-a72")


def test_targets_in_the_users_folder_go_by_name():
    folder = paths.config_dir() / "targets"
    folder.mkdir(parents=True)
    (folder / "lab.toml").write_text('base = "rpi5"\n')
    assert load_target("lab").has_dot_product


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('base = "rpi9"', "rpi9"),
        ('base = "rpi4"\nrma_bytes = 1', "rma_bytes"),
        ('name = "no base"', "is missing"),
        ('base = "rpi4"\nram_bytes = "many"', "ram_bytes"),
        ('base = "rpi4"\naccelerator = {nam = 1}', "accelerator"),
        ("base = ", "mine.toml"),
    ],
)
def test_a_wrong_target_file_is_one_clear_error(tmp_path, text, said):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_target(str(path))


def test_an_unknown_target_names_the_verb_that_lists_them():
    with pytest.raises(UsageError, match="edgeloop targets"):
        load_target("rpi99")
