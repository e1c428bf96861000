"""`edgeloop run`: a bundle tried on this host and over a real sshd, its telemetry stored here."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeloop.cli.main import main
from edgeloop.errors import EdgeloopError
from edgeloop.telemetry.store import open_store
from edgeloop_agent.service.status import ask
from support.digits import make_digits_bundle, save_held_out
from support.sshd import ssh_server


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Path, Path]:
    """(bundle, held-out npz, EDGELOOP_HOME with the key that signed it)."""
    folder = tmp_path_factory.mktemp("made")
    home = folder / "home"
    os.environ["EDGELOOP_HOME"] = str(home)
    return make_digits_bundle(folder), save_held_out(folder), home


@pytest.fixture
def bundle_and_data(made, monkeypatch) -> tuple[Path, Path]:
    monkeypatch.setenv("EDGELOOP_HOME", str(made[2]))
    return made[0], made[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ssh_server(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.mark.slow
def test_local_shows_what_the_collector_stored(bundle_and_data, capsys):
    bundle, data = bundle_and_data
    assert (
        main(["run", "local:", str(bundle), "--source", f"npz:{data}", "--count", "300", "--threads", "2", "--json"])
        == 0
    )
    result = json.loads(capsys.readouterr().out)
    assert (result["inferences"], result["errors"], result["delegate"]) == (300, 0, "xnnpack")
    assert 0 < result["p50_ms"] <= result["p95_ms"] <= result["p99_ms"]
    assert (result["n"], result["threads"]) == (300, 2)
    assert set(result["latency"]) == {"capture", "preprocess", "invoke", "postprocess", "total"}


def test_gate_and_governor_are_the_devices_and_what_they_saved_is_shown(bundle_and_data, capsys):
    bundle, data = bundle_and_data
    words = ["run", "local:", str(bundle), "--source", f"npz:{data}", "--loop", "--count", "1200", "--gate"]
    assert main([*words, "--audit-every", "5", "--latency-budget", "1000", "--dwell", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["frames"] == 1200 == result["inferences"] + result["gated"]
    assert sum(result["cache"]["l1"][what] for what in ("hits", "misses")) == 1200
    assert result["gauges"]["activation"] > 0.5
    assert main([*words[:5], "--dwell", "1"]) == 2
    assert "dwell is a setting of the governor" in capsys.readouterr().err


def test_every_line_of_the_table_carries_device_threads_delegate_and_n(bundle_and_data, capsys):
    bundle, data = bundle_and_data
    assert main(["run", "local:", str(bundle), "--source", f"npz:{data}", "--count", "20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("invoke"))
    assert max(map(len, lines)) <= 80, "a terminal does not wrap it"
    n, threads, delegate, device = row.split()[4:]
    assert (n, threads, delegate) == ("20", "1", "xnnpack")
    assert device.startswith("local-")


@pytest.mark.slow
def test_a_camera_that_is_not_there_is_said_while_it_is_waited_for(bundle_and_data):
    command = [sys.executable, "-m", "edgeloop.cli", "run", "local:", str(bundle_and_data[0]), "--source", "camera:63"]
    with subprocess.Popen([*command, "--count", "1"], stderr=subprocess.PIPE, text=True) as process:
        said = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert "source_lost: source camera:63: /dev/video63 is not there" in said


@pytest.mark.slow
def test_ssh_installs_runs_reports_and_leaves_only_the_agent(bundle_and_data, server, tmp_path, capsys):
    bundle, data = bundle_and_data
    board = tmp_path / "board"
    store = f"sqlite:///{tmp_path}/kept.db"
    arguments = ["run", server.url, str(bundle), "--source", f"npz:{data}", "--count", "300", "--json"]
    arguments += ["--identity", str(server.identity), "--prefix", str(board), "--store", store]
    assert main(arguments) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["inferences"] == 300
    assert [p.name for p in (board / "opt/edgeloop/agent").iterdir()] == [first["agent_version"]]
    assert list((board / "var/lib/edgeloop/trials").iterdir()) == []

    assert main([*arguments, "--remove"]) == 0
    printed = capsys.readouterr()
    assert "was there already" in printed.err
    assert list((board / "opt/edgeloop/agent").iterdir()) == []
    kept = open_store(store)
    assert kept.counts().inferences == 600
    kept.close()


@pytest.mark.slow
def test_ctrl_c_stops_the_agent_and_keeps_its_last_report(bundle_and_data, server, tmp_path):
    bundle, data = bundle_and_data
    command = [sys.executable, "-m", "edgeloop.cli", "run", server.url, str(bundle), "--source", f"npz:{data}"]
    command += ["--loop", "--rate", "50", "--identity", str(server.identity), "--prefix", str(tmp_path / "b"), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _wait_for_agent(tmp_path / "b", process)
    _wait(lambda: _inferences(tmp_path / "b") > 50 or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    result = json.loads(out)
    assert result["inferences"] > 50
    assert result["exit_code"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["run", "bench"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_however_the_host_ends_nothing_goes_on_on_the_device(bundle_and_data, server, tmp_path, verb, number):
    """During the transfer, the measurement or the loop: whatever is reached first."""
    bundle, data = bundle_and_data
    board = tmp_path / "board"
    where = [server.url, str(bundle), "--source", f"npz:{data}", "--loop"]
    if verb == "bench":
        where = [str(bundle), "--device", server.url, "-n", "5000000"]
    command = [sys.executable, "-m", "edgeloop.cli", verb, *where, "--identity", str(server.identity)]
    process = subprocess.Popen([*command, "--prefix", str(board)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _wait(lambda: list(board.glob("var/lib/edgeloop/trials/*/*")) or process.poll() is not None)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if number in (signal.SIGINT, signal.SIGTERM):
        assert (process.returncode, err.decode().splitlines()[-1]) == (130, "edgeloop: interrupted")
    _wait(lambda: not list((board / "var/lib/edgeloop/trials").iterdir()) and not _processes_of(board))


@pytest.mark.slow
def test_ctrl_c_while_installing_leaves_no_half_of_it(bundle_and_data, server, tmp_path):
    board = tmp_path / "board"
    command = [
        sys.executable,
        "-m",
        "edgeloop.cli",
        "run",
        server.url,
        str(bundle_and_data[0]),
        "--source",
        "synthetic:",
    ]
    command += ["--identity", str(server.identity), "--prefix", str(board)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _wait(lambda: list(board.glob("opt/edgeloop/agent/*.partial/site/*")) or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    _wait(lambda: not list((board / "opt/edgeloop/agent").iterdir()))


def test_ctrl_c_while_connecting_stops_at_once(bundle_and_data):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ssh://pi@127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-m", "edgeloop.cli", "run", url, str(bundle_and_data[0]), "--source", "synthetic:"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        peer, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        peer.close()
    assert (process.returncode, err.decode().splitlines()[-1]) == (130, "edgeloop: interrupted")


def test_an_early_ctrl_c_here_is_an_interruption_unless_there_is_a_result(bundle_and_data):
    bundle, _ = bundle_and_data
    command = [sys.executable, "-m", "edgeloop.cli", "run", "local:", str(bundle), "--source", "synthetic:", "--loop"]
    process = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    trials = Path(os.environ["EDGELOOP_HOME"]) / "state/trials"
    _wait(lambda: list(trials.glob("*/.in-use")) or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    if process.returncode != 0:
        assert (process.returncode, out) == (130, b""), err
    else:
        assert json.loads(out)["inferences"] > 0
    _wait(lambda: not list(trials.iterdir()))


@pytest.mark.slow
def test_bench_measures_on_the_device_and_leaves_no_model_there(bundle_and_data, server, tmp_path, capsys):
    arguments = ["bench", str(bundle_and_data[0]), "--device", server.url, "--identity", str(server.identity), "--json"]
    assert main([*arguments, "--prefix", str(tmp_path / "board"), "-n", "50", "--delegate", "xnnpack"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["n"], result["delegate"], result["threads"]) == (50, "xnnpack", 1)
    assert 0 < result["p50_ms"] <= result["p95_ms"] <= result["p99_ms"]
    assert list((tmp_path / "board/var/lib/edgeloop/trials").iterdir()) == []


def test_python_has_the_same_verbs(bundle_and_data):
    import edgeloop as el

    with el.connect("local:") as here:
        result = here.bench(bundle_and_data[0], n=30)
        trial = here.run(bundle_and_data[0], f"npz:{bundle_and_data[1]}", count=20)
    assert trial.summary.latency["invoke"].count == 20
    assert (result.n, result.delegate) == (30, "xnnpack")
    assert 0 < result.p95_ms < 1000


def _wait_for_agent(board: Path, process: subprocess.Popen[str]) -> None:
    _wait(lambda: list(board.glob("var/lib/edgeloop/trials/*/state/*")) or process.poll() is not None)


def _inferences(board: Path) -> int:
    """Of the agent that runs there, as it says itself."""
    for state in board.glob("var/lib/edgeloop/trials/*/state"):
        with contextlib.suppress(EdgeloopError, LookupError):
            return ask(state)["models"][0]["counters"]["inferences"]
    return 0


def _wait(condition) -> None:
    for _ in range(2400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to pass")


def _processes_of(board: Path) -> list[bytes]:
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                line = (process / "cmdline").read_bytes()
                if os.fsencode(board) in line:
                    found.append(line)
    return found


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["local:", "absent.bundle", "--source", "synthetic:"], 2, "absent.bundle"),
        (["ssh://pi@127.0.0.1:1", "BUNDLE", "--source", "synthetic:"], 3, "cannot be reached"),
        (["local:", "BUNDLE", "--source", "npz:absent.npz"], 2, "absent.npz"),
        (["ssh://pi@127.0.0.1:1", "BUNDLE", "--source", "folder:/nope"], 2, "no such folder on this host"),
        (["ssh://pi@127.0.0.1:1", "BUNDLE", "--source", "npz:/tmp"], 2, "not a file"),
        (["ssh://pi@127.0.0.1:1", "BUNDLE", "--source", "folder:/nope", "--source-on-device"], 3, "cannot be reached"),
        (["ssh://pi@127.0.0.1:1", "BUNDLE", "--source", "synthetic:", "--count", "0"], 2, "count must be at least 1"),
        (["local:", "BUNDLE", "--source", "telepathy:"], 2, "telepathy"),
    ],
)
def test_what_cannot_run_is_said_in_one_line(bundle_and_data, arguments, code, said, capsys):
    bundle, _ = bundle_and_data
    assert main(["run", *[str(bundle) if a == "BUNDLE" else a for a in arguments]]) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("edgeloop:")]
    assert len(lines) == 1
    assert said in lines[0]


def test_a_tampered_bundle_is_refused_before_anything_is_copied(bundle_and_data, tmp_path, capsys):
    content = bytearray(bundle_and_data[0].read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "bad.bundle").write_bytes(content)
    assert main(["run", "local:", str(tmp_path / "bad.bundle"), "--source", "synthetic:"]) == 4
