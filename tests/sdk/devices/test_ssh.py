"""A device over a real sshd on loopback: commands, streams, forwarding, host keys, and what is said when it fails."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from edgeloop import paths
from edgeloop.devices import connect
from edgeloop.devices.connection import read_platform
from edgeloop.devices.install import DeviceLayout, choose_layout, put_file, put_tree, remove
from edgeloop.errors import DeviceError, RefusedError, UsageError
from support.sshd import SshServer, ssh_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ssh_server(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def device(server: SshServer):
    opened = connect(server.url, identity=server.identity)
    yield opened
    opened.close()


def test_runs_a_command_with_input_and_gives_its_output_and_exit_code(device):
    done = device.run(["sh", "-c", "cat; echo to-stderr >&2; exit 3"], stdin=[b"hello ", b"device"])
    assert (done.exit_code, done.stdout, done.stderr) == (3, b"hello device", b"to-stderr\n")


def test_arguments_arrive_as_they_are(device):
    assert device.run(["printf", "%s|", "a b", "$HOME", "'; rm -rf /x"]).stdout == b"a b|$HOME|'; rm -rf /x|"


def test_streams_lines_and_takes_input_until_it_is_ended(device):
    lines: list[str] = []
    said: list[str] = []
    running = device.start(["sh", "-c", "echo up >&2; cat; exit 7"], lines.append, said.append)
    running.send(b"one\ntwo\n")
    assert running.wait(0.01) is None
    running.end_input()
    assert running.wait(30) == 7
    assert (lines, said) == (["one", "two"], ["up"])


def test_a_port_on_the_device_reaches_the_host(device):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = device.forward_to_host(listener.getsockname()[1])

        def answer() -> None:
            peer, _ = listener.accept()
            peer.sendall(b"from the host")
            peer.close()

        threading.Thread(target=answer, daemon=True).start()
        code = f"import socket; print(socket.create_connection(('127.0.0.1', {port})).recv(99).decode())"
        assert device.run(["/usr/bin/python3", "-I", "-c", code]).stdout == b"from the host\n"


def test_describes_itself(device):
    platform = read_platform(device)
    assert platform.python >= (3, 10)
    assert platform.machine in ("x86_64", "aarch64")


def test_copies_files_and_folders_and_removes_them(device, tmp_path):
    (tmp_path / "src/deep").mkdir(parents=True)
    (tmp_path / "src/deep/a.bin").write_bytes(bytes(range(256)) * 5000)
    target = DeviceLayout(tmp_path / "dev").state
    put_tree(device, tmp_path / "src", target / "tree")
    put_file(device, tmp_path / "src/deep/a.bin", target / "one.bin")
    expected = (tmp_path / "src/deep/a.bin").read_bytes()
    assert (tmp_path / "dev/var/lib/edgeloop/tree/deep/a.bin").read_bytes() == expected
    assert (tmp_path / "dev/var/lib/edgeloop/one.bin").read_bytes() == expected
    remove(device, target)
    assert not (tmp_path / "dev/var/lib/edgeloop").exists()


def test_a_prefix_overrides_the_system_wide_layout(device):
    layout = choose_layout(device, read_platform(device), "/some/where")
    assert str(layout.launcher("1")) == "/some/where/opt/edgeloop/agent/1/bin/edgeloop-agent"


def test_first_contact_is_shown_and_recorded(server):
    said: list[str] = []
    connect(server.url, identity=server.identity, note=said.append).close()
    assert "SHA256:" in said[0]
    connect(server.url, identity=server.identity, note=said.append).close()
    assert len(said) == 1
    assert f"[127.0.0.1]:{server.port}" in (paths.config_dir() / "known_hosts").read_text()


def test_a_changed_host_key_is_refused(server, tmp_path):
    connect(server.url, identity=server.identity).close()
    other = (Path(f"{server.identity}.pub")).read_text().split()
    (paths.config_dir() / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {other[0]} {other[1]}\n")
    with pytest.raises(RefusedError, match="not the one known"):
        connect(server.url, identity=server.identity)


def test_a_wrong_key_says_the_login_was_refused(server):
    with pytest.raises(DeviceError, match="refused the login"):
        connect(server.url, identity=server.host_key)


def test_nobody_there_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(DeviceError, match="cannot be reached"):
        connect(f"ssh://pi@127.0.0.1:{port}")


@pytest.mark.parametrize("url", ["ssh://", "ssh://pi:secret@host", "ftp://host", "ssh://pi@host/path"])
def test_a_wrong_url_is_wrong_use(url):
    with pytest.raises(UsageError):
        connect(url)


def test_a_full_disk_or_forbidden_folder_is_said(device):
    with pytest.raises(DeviceError, match="copying"):
        put_file(device, Path(__file__), DeviceLayout(Path("/proc/nowhere")).state / "x")
