"""Real agents against a collector with TLS: enrolled by hand and by a token in the settings, over mTLS and a bearer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeloop.telemetry.collector.http_server import Doors
from edgeloop.telemetry.collector.security import identity
from edgeloop.telemetry.collector.security.authority import Authority
from edgeloop.telemetry.collector.security.security import Security
from edgeloop.telemetry.collector.server import CollectorHandle, start_collector
from support.agents import Agents, frames, golden_of, make_bundle, run_cli
from support.securing import prepare_store


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No lookup is remembered."""
    monkeypatch.setattr(identity, "KEPT_S", 0.0)


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "digits.bundle", golden=golden_of(frames(2)))


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    return Authority.create(tmp_path / "tls", ["127.0.0.1"]).ca_path


@pytest.fixture
def token(tmp_path: Path) -> str:
    return prepare_store(f"sqlite:///{tmp_path}/t.db")["enroll"]


@pytest.fixture
def collector(tmp_path: Path, ca: Path, token: str) -> Iterator[CollectorHandle]:
    del token  # made before: without anybody to let in it does not start
    with start_collector(f"sqlite:///{tmp_path}/t.db", "0.0.0.0:0", doors=Doors(ca.parent)) as handle:
        yield handle


def stored(collector: CollectorHandle, device: str) -> int:
    return sum(each.report.device == device for each in collector.store.reports())


RUN = ("--source", "synthetic:", "--rate", 200, "--count", 60, "--report-interval", 0.2, "--stop-timeout", 10)


@pytest.mark.slow
@pytest.mark.parametrize("bearer", [False, True])
def test_an_agent_that_was_enrolled_reports(
    agents: Agents, bundle: Path, collector: CollectorHandle, ca: Path, token: str, tmp_path: Path, bearer: bool
) -> None:
    (tmp_path / "token").write_text(token)
    told = run_cli(
        "enroll", collector.url, "--token-file", tmp_path / "token", "--ca", ca, "--device", "pi-1", "--state",
        tmp_path / "state", "--json", *(["--bearer"] if bearer else []),
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["kind"] == ("bearer" if bearer else "certificate")
    code, summary, said = agents.run("--bundle", bundle, *RUN, "--device", "pi-1", "--telemetry", collector.url)
    assert code == 0, said
    assert stored(collector, "pi-1") == summary["reports"]["made"] == summary["reports"]["delivered"]
    code, _summary, said = agents.run("--bundle", bundle, *RUN, "--device", "pi-2", "--telemetry", collector.url)
    assert code == 2 and "enrolled as 'pi-1'" in said
    Security.over(collector.store.database).registry.revoke(["pi-1"], "test")
    code, summary, said = agents.run(
        "--bundle", bundle, "--source", "synthetic:", "--rate", 200, "--count", 60, "--report-interval", 0.2,
        "--stop-timeout", 0.5, "--device", "pi-1", "--telemetry", collector.url,
    )  # fmt: skip
    assert code == 0 and summary["reports"]["delivered"] == 0 < summary["reports"]["waiting"], said
    assert "revoked" in said and token not in said


@pytest.mark.slow
def test_enrolling_again_in_vain_leaves_a_device_as_it_was(
    agents: Agents, bundle: Path, collector: CollectorHandle, ca: Path, token: str, tmp_path: Path
) -> None:
    words = ("enroll", collector.url, "--token", token, "--ca", ca, "--device", "pi-1", "--state", tmp_path / "state")
    assert run_cli(*words).returncode == 0
    again = run_cli(*words)
    assert again.returncode == 4 and "there is a device 'pi-1' already" in again.stderr
    code, summary, said = agents.run("--bundle", bundle, *RUN, "--device", "pi-1", "--telemetry", collector.url)
    assert code == 0 and stored(collector, "pi-1") == summary["reports"]["made"], said


def test_a_token_in_the_settings_enrolls_at_the_first_run(
    agents: Agents, bundle: Path, collector: CollectorHandle, ca: Path, token: str, tmp_path: Path
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(
        f'telemetry = "{collector.url}?ca={ca}"\nenroll_token = "{token}"\ndevice = "pi-7"\nbundle = "{bundle}"\n'
        'source = "synthetic:"\ncount = 60\nrate = 200.0\nreport_interval = 0.2\nstop_timeout = 10.0\n'
    )
    for _ in range(2):
        code, summary, said = agents.run("--config", config)
        assert code == 0, said
        assert summary["reports"]["waiting"] == 0
        assert token not in said
    found = Security.over(collector.store.database).registry.get("pi-7")
    assert (found.status, found.kind, found.group) == ("enrolled", "certificate", "lab")


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (["https://127.0.0.1:1", "--token", "elt-x"], 3, "not reachable"),
    (["http://127.0.0.1:1", "--token", "elt-x"], 2, "over https"),
    (["https://127.0.0.1:1"], 2, "--token"),
    (["https://127.0.0.1:1", "--token-file", "/nowhere"], 2, "cannot be read"),
])  # fmt: skip
def test_an_enrollment_that_fails_is_one_line(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    told = run_cli("enroll", *arguments, "--state", tmp_path / "state")
    assert told.returncode == code, told.stderr
    assert words in told.stderr and "Traceback" not in told.stderr and "elt-x" not in told.stderr
