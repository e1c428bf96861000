"""Agents and configs come by a stick and over a line as bundles do: the device's door decides about each."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeloop.deploy.cargo import open_cargo
from edgeloop.deploy.stick import put_on_stick, stick_states
from edgeloop.errors import RefusedError
from edgeloop.telemetry.delivery.carried_bundles import encode_offer
from edgeloop_agent.delivery.apply import model_folder
from edgeloop_agent.delivery.incoming_stick import StickWatch
from edgeloop_agent.delivery.package_folders import (
    AGENT,
    CONFIG,
    base_of,
    config_folder,
    package_folder,
    read_base,
    write_base,
)
from support.agents import frames, make_bundle, run_cli
from support.installed_agent import Service, agent_package, config_package
from support.throttled import Cable


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Version 7 of a bundle is committed; root has installed a config that runs it."""
    state = tmp_path / "state"
    assert run_cli("update", make_bundle(tmp_path / "7.bundle"), "--state", state, "--rehearsal", "0.1").returncode == 0
    model_folder(state, "digits").commit()
    np.savez(tmp_path / "x.npz", x=frames(20))
    return state


def config_text(state: Path, *more: str) -> str:
    lines = [
        f'bundle = "{model_folder(state, "digits").current}"', f'source = "npz:{state.parent / "x.npz"}"',
        f'state = "{state}"', "loop = true", "rate = 50.0", "trial = 1.0", 'device = "pi-1"', "report_interval = 0.5",
    ]  # fmt: skip
    return "\n".join([*lines, *more]) + "\n"


def test_a_config_on_a_stick_is_taken_in_and_what_came_of_it_is_written_back(state: Path, tmp_path: Path) -> None:
    base_file, stick = tmp_path / "agent.toml", tmp_path / "stick"
    base_file.write_text(config_text(state))
    base = base_of("0.1.0", ("python3",), base_file)
    write_base(state, base)
    stick.mkdir()
    good, bad = config_text(state, "threads = 1"), config_text(state, "threads = 'many'")
    files = [config_package(tmp_path, 1, good), config_package(tmp_path, 2, bad)]

    def told(version: int) -> tuple[str, str]:
        StickWatch(stick, "pi-1", state, ("--state", str(state))).look()
        (state_of,) = [each for each in stick_states(stick) if each.version == version]
        return state_of.state, state_of.reason

    (offer,) = put_on_stick(stick, [open_cargo(files[0])])
    assert (offer.kind, offer.name) == (CONFIG, "kitchen")
    assert told(1) == ("trial", "")
    config_folder(state, base).commit()
    assert told(1) == ("committed", "")
    put_on_stick(stick, [open_cargo(files[1])])
    verdict, why = told(2)
    assert verdict == "refused" and "threads" in why
    running = config_folder(state, base).standing().running
    assert running is not None and running.number == 1


def test_offers_of_bundles_say_what_older_agents_read(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    (offer,) = put_on_stick(stick, [open_cargo(make_bundle(tmp_path / "8.bundle", version=8))])
    assert "kind" not in json.loads(encode_offer(offer))


def test_a_damaged_package_does_not_leave_the_host(tmp_path: Path) -> None:
    path = agent_package(tmp_path, 5)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(RefusedError):
        open_cargo(path)


@pytest.fixture
def service(state: Path, tmp_path: Path) -> Iterator[tuple[Service, Cable]]:
    """An installed agent that systemd started; its reports go over a cable."""
    cable = Cable(tmp_path, bytes_per_s=100_000)
    service = Service(tmp_path / "opt", tmp_path / "agent.toml")
    service.config.write_text(config_text(state, f'telemetry = "serial://{cable.device}?baud=1000000"'))
    service.install()
    service.start()
    yield service, cable
    service.stop()
    cable.close()


@pytest.mark.slow
def test_a_config_and_an_agent_go_over_a_line(service: tuple[Service, Cable], state: Path, tmp_path: Path) -> None:
    installed, cable = service
    installed.wait_until(lambda: installed.state(state).get("models"), "ran")
    url = f"serial://{cable.host}?baud=1000000"

    def deploy(path: Path, *more: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "edgeloop.cli", "deploy", url, str(path), "--json", *more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        return done.returncode, done.stdout

    text = installed.config.read_text()
    code, said = deploy(config_package(tmp_path, 1, text + "threads = 1\n"))
    assert code == 0 and json.loads(said)["hosts"][0]["state"] == "committed", (said, installed.said)
    code, said = deploy(config_package(tmp_path, 2, text.replace("npz:", "npz:/nope")))
    assert code == 1 and "refused it" in said, (said, installed.said)
    code, said = deploy(agent_package(tmp_path, 5))
    assert code == 0 and json.loads(said)["kind"] == AGENT, (said, installed.said)
    base = read_base(state)
    assert base is not None
    running = {kind: package_folder(state, base, kind).standing().committed for kind in (AGENT, CONFIG)}
    assert {kind: None if v is None else v.number for kind, v in running.items()} == {AGENT: 5, CONFIG: 1}
    code, said = deploy(agent_package(tmp_path, 6), "--max-p95", "3")
    assert code == 2 and "a budget is for bundles" in said
