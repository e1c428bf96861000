"""Versions of the agent and of its config through the door: on trial, committed, rolled back, whatever they do."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.bundle import load_or_create_signing_key
from edgeloop.bundle.package import Package, is_package, rewrite_package
from edgeloop.bundle.package_signing import allow_older_package
from edgeloop.bundle.packer import allow_older
from edgeloop.cli.main import main as host
from edgeloop.errors import RefusedError
from edgeloop_agent.cli import main
from edgeloop_agent.delivery.apply import model_folder
from edgeloop_agent.delivery.package_folders import base_of, package_folder, read_base, write_base
from edgeloop_agent.delivery.update import Admit, Platform, Refuse, judge_platform
from support.agents import frames, make_bundle
from support.installed_agent import AT_RUN, Service, agent_package, config_package

HERE = Platform("aarch64", (3, 11), (2, 36))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Installed, with a config whose bundle is committed; not started."""
    state, bundle = tmp_path / "state", make_bundle(tmp_path / "7.bundle")
    assert main(["update", str(bundle), "--state", str(state), "--rehearsal", "0.1"]) == 0
    model_folder(state, "digits").commit()
    np.savez(tmp_path / "x.npz", x=frames(20))
    config = tmp_path / "agent.toml"
    config.write_text(settings(tmp_path))
    found = Service(tmp_path, config)
    found.install()
    write_base(state, base_of("0.1.0+base", (str(found.launcher),), config))
    yield found
    found.stop()


def settings(folder: Path, rate: int = 50) -> str:
    link = model_folder(folder / "state", "digits").current
    return (
        f'bundle = "{link}"\nsource = "npz:{folder}/x.npz"\nloop = true\nrate = {rate}\n'
        f'trial = 1\nstate = "{folder}/state"\n'
    )


def update(path: Path, folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["update", str(path), "--config", str(folder / "agent.toml"), "--rehearsal", "0.1", "--json", *more])
    return code, json.loads(capsys.readouterr().out)


def runs(folder: Path, kind: str) -> int | None:
    base = read_base(folder / "state")
    assert base is not None
    version = package_folder(folder / "state", base, kind).standing().running
    return None if version is None else version.number


def test_an_agent_fits_one_machine_and_one_python() -> None:
    assert judge_platform(HERE, HERE) == Admit()
    assert judge_platform(replace(HERE, glibc=(2, 17)), HERE) == Admit()
    for other, why in (
        (replace(HERE, machine="armv7l"), "made for armv7l"),
        (replace(HERE, python=(3, 13)), "made for Python 3.13"),
        (replace(HERE, glibc=(2, 41)), "needs glibc 2.41"),
    ):
        verdict = judge_platform(other, HERE)
        assert isinstance(verdict, Refuse) and why in verdict.reason


def test_a_package_is_told_from_a_bundle_by_its_content(tmp_path: Path) -> None:
    package = config_package(tmp_path, 1, "")
    bundle = make_bundle(tmp_path / "7.bundle")
    assert is_package(package.rename(tmp_path / "x.bundle")) and not is_package(bundle)
    assert not is_package(tmp_path) and not is_package(tmp_path / "nothing")


def test_what_no_trusted_key_signed_or_was_changed_is_refused(tmp_path: Path) -> None:
    path = config_package(tmp_path, 1, "x = 1\n")
    package = Package.open(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"x = 1", b"x = 2"))
    with pytest.raises(RefusedError):
        Package.open(path).read()
    rewrite_package(path, package.raw_manifest, [], [], b"x = 1\n")
    with pytest.raises(RefusedError, match="not signed"):
        Package.open(path)
    path.write_bytes(content[:-30])
    with pytest.raises(RefusedError):
        Package.open(path)


def test_what_does_not_fit_or_start_stays_out(
    tmp_path: Path, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [
        (agent_package(tmp_path, 1, machine="armv7l"), "it was made for armv7l"),
        (agent_package(tmp_path, 2, python=(2, 7)), "it was made for Python 2.7"),
        (agent_package(tmp_path, 3, "sys.exit('no library')"), "it does not start: no library"),
        (agent_package(tmp_path, 4, "if sys.argv[1] == 'update': os._exit(7)"), "it does not run current.bundle"),
        (config_package(tmp_path, 5, 'bundle = "x"\n'), "--source is missing"),
        (config_package(tmp_path, 6, settings(tmp_path) + "nonsense = 1\n"), "unknown key 'nonsense'"),
        (
            config_package(tmp_path, 7, settings(tmp_path) + 'trust = ["/tmp/mine.pub"]\n'),
            "'trust' is for who has root",
        ),
        (config_package(tmp_path, 8, settings(tmp_path).replace("current.bundle", "no.bundle")), "cannot open bundle"),
    ]
    for package, why in cases:
        code, done = update(package, tmp_path, capsys)
        assert code == 1 and why in done["reason"], (package, done)
    assert "failed here before" in update(cases[2][0], tmp_path, capsys)[1]["reason"]
    assert (runs(tmp_path, "agent"), runs(tmp_path, "config")) == (None, None)
    assert not list((tmp_path / "state/packages").rglob("trees/*"))


def test_one_trial_at_a_time_and_an_older_one_by_exception(
    tmp_path: Path, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    code, done = update(config_package(tmp_path, 5, settings(tmp_path, rate=51)), tmp_path, capsys)
    assert (code, done["state"], done["kind"], done["name"], done["version"]) == (0, "trial", "config", "kitchen", 5)
    bundle = make_bundle(tmp_path / "8.bundle", version=8)
    assert "config version 5 is on trial" in update(bundle, tmp_path, capsys)[1]["reason"]
    assert "config version 5 is on trial" in update(agent_package(tmp_path, 1), tmp_path, capsys)[1]["reason"]
    base = read_base(tmp_path / "state")
    assert base is not None
    package_folder(tmp_path / "state", base, "config").commit()
    older = config_package(tmp_path, 4, settings(tmp_path, rate=52))
    assert "older than 5" in update(older, tmp_path, capsys)[1]["reason"]
    allow_older_package(older, load_or_create_signing_key())
    assert host(["bundle", "inspect", str(older)]) == 0
    assert "allowed  after a higher version on any device, without an end" in capsys.readouterr().out
    assert update(older, tmp_path, capsys)[1]["state"] == "trial"
    allow_older(bundle, load_or_create_signing_key())
    assert "config version 4 is on trial" in update(bundle, tmp_path, capsys)[1]["reason"]
    words = ["rollback", "--package", "config", "--state", str(tmp_path / "state")]
    assert main(words) == 0 and runs(tmp_path, "config") == 5
    assert main(words) == 0 and runs(tmp_path, "config") is None
    assert main(words) == 2


def test_a_device_whose_service_looks_for_none_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "agent.toml").write_text(f'state = "{tmp_path}/state"\n')
    code, done = update(config_package(tmp_path, 1, ""), tmp_path, capsys)
    assert code == 2 and "service --install" in done["error"]["hint"]


@pytest.mark.slow
def test_a_good_agent_takes_over_in_the_same_process_and_is_committed(
    tmp_path: Path, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    service.start()
    before = service.wait_until(lambda: service.state(state), "ran")
    assert before["agent"] == "0.1.0"
    assert update(agent_package(tmp_path, 1), tmp_path, capsys)[1]["state"] == "trial"
    service.wait_until(lambda: service.state(state).get("agent") == "9.1", "version 1 took over")
    assert service.state(state).get("pid", before["pid"]) == before["pid"]
    service.wait_until(lambda: "committed: agent version 1: well for" in service.said, "it was committed")
    service.stop()
    service.start()
    service.wait_until(lambda: service.state(state).get("agent") == "9.1", "it runs after a restart, too")
    # Root has the last word: on another installed agent nothing of it runs.
    service.stop()
    (tmp_path / "0.1.0+base").rename(tmp_path / "0.2.0+base")
    (tmp_path / "0.1.0+base").symlink_to("0.2.0+base")
    service.start()
    service.wait_until(lambda: service.state(state).get("agent") == "0.1.0", "the new base runs")


@pytest.mark.slow
@pytest.mark.parametrize(
    "broken",
    ["os._exit(1)", "import ctypes; ctypes.string_at(0)", "sys.exit(4)", "os.kill(os.getpid(), 9)"],
)
def test_an_agent_that_cannot_run_at_all_gives_way_to_the_one_before(
    tmp_path: Path, service: Service, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    state = tmp_path / "state"
    service.start()
    service.wait_until(lambda: service.state(state), "ran")
    assert update(agent_package(tmp_path, 1, AT_RUN + broken), tmp_path, capsys)[1]["state"] == "trial"
    service.wait_until(lambda: "agent version 1 to the installed one" in service.said, "it went back")
    service.wait_until(lambda: service.state(state).get("agent") == "0.1.0", "the installed one runs")
    assert runs(tmp_path, "agent") is None
    assert "failed here before" in update(tmp_path / "1.agent", tmp_path, capsys)[1]["reason"]


@pytest.mark.slow
def test_a_config_that_does_not_work_gives_way_and_a_good_one_stays(
    tmp_path: Path, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    service.start()
    service.wait_until(lambda: service.state(state), "ran")
    bad = config_package(tmp_path, 1, settings(tmp_path) + "memory_limit = 1\n")
    assert update(bad, tmp_path, capsys)[1]["state"] == "trial"
    service.wait_until(lambda: "rollback: config version 1 to the installed one" in service.said, "it went back")
    service.wait_until(lambda: service.state(state).get("models"), "the installed one runs")
    assert runs(tmp_path, "config") is None
    good = config_package(tmp_path, 2, settings(tmp_path, rate=40) + 'device = "kitchen"\n')
    assert update(good, tmp_path, capsys)[1]["state"] == "trial"
    service.wait_until(lambda: service.state(state).get("device") == "kitchen", "its settings hold")
    service.wait_until(lambda: "committed: config version 2: well for" in service.said, "it was committed")
    # Root has the last word: a changed config runs from its reload on, without what came on top of the old one.
    service.config.write_text(settings(tmp_path) + 'device = "root"\n')
    assert "reload" in update(config_package(tmp_path, 3, settings(tmp_path)), tmp_path, capsys)[1]["error"]["hint"]
    assert service.process is not None
    service.process.send_signal(signal.SIGHUP)
    service.wait_until(lambda: service.state(state).get("device") == "root", "root's config runs")
    assert service.starts == 1
