"""What the wheel holds is what the folders hold."""

from __future__ import annotations

import configparser
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ROOTS = ("sdk", "converters", "device_agents")


def setup_cfg() -> configparser.ConfigParser:
    config = configparser.ConfigParser(interpolation=None)
    config.read(REPOSITORY / "setup.cfg")
    return config


def test_every_package_folder_is_listed_for_the_wheel():
    listed = set(setup_cfg()["options"]["packages"].split())
    found = {
        ".".join(init.parent.relative_to(REPOSITORY / root).parts)
        for root in ROOTS
        for init in (REPOSITORY / root).rglob("__init__.py")
    }
    assert listed == found


def test_every_python_file_lies_in_a_package():
    lost = [
        str(path.relative_to(REPOSITORY))
        for root in ROOTS
        for path in (REPOSITORY / root).rglob("*.py")
        if not (path.parent / "__init__.py").is_file()
    ]
    assert lost == []


def test_the_device_extras_name_no_training_framework():
    extras = setup_cfg()["options.extras_require"]
    for name in ("agent", "serial", "convert", "host"):
        assert "tensorflow" not in extras[name]
        assert "torch" not in extras[name]
