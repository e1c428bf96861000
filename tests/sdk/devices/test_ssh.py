"""A device over a real sshd on loopback: commands, streams, forwarding, host keys, and what is said when it fails."""

from __future__ import annotations

import socket
import subprocess
import threading
from pathlib import Path

import pytest

from edgeloop import paths
from edgeloop.devices import connect
from edgeloop.devices.connection import read_platform
from edgeloop.devices.install import DeviceLayout, choose_layout, put_file, put_tree, remove
from edgeloop.errors import ConfigError, DeviceError, RefusedError, UsageError
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
    assert running.wait(60) == 7
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
    put_tree(device, tmp_path / "src", target / "tree", names=["deep/a.bin"])
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


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A HOME of the test's own, with an empty ~/.ssh."""
    (tmp_path / "home/.ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_changed_host_key_is_refused_with_the_command_that_forgets_it(server, home):
    other = (Path(f"{server.identity}.pub")).read_text().split()
    line = f"[127.0.0.1]:{server.port} {other[0]} {other[1]}\n"
    (home / ".ssh/known_hosts").write_text(line)
    paths.config_dir().mkdir(parents=True)
    (paths.config_dir() / "known_hosts").write_text(f"elsewhere {other[0]} {other[1]}\n{line}")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(home / ".ssh/known_hosts")], check=True, capture_output=True)
    with pytest.raises(RefusedError, match="not the one known") as refused:
        connect(server.url, identity=server.identity)
    assert str(home) in str(refused.value.hint)
    assert str(paths.config_dir()) in str(refused.value.hint)
    command = str(refused.value.hint).partition(": ")[2]
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    connect(server.url, identity=server.identity).close()


def test_a_changed_key_names_only_the_file_that_has_it(server, home):
    other = (Path(f"{server.identity}.pub")).read_text().split()
    (home / ".ssh/known_hosts").write_text(f"elsewhere {other[0]} {other[1]}\n")
    paths.config_dir().mkdir(parents=True)
    own = paths.config_dir() / "known_hosts"
    own.write_text(f"[127.0.0.1]:{server.port} {other[0]} {other[1]}\n")
    with pytest.raises(RefusedError) as refused:
        connect(server.url, identity=server.identity)
    assert str(refused.value.hint).endswith(f": ssh-keygen -f {own} -R '[127.0.0.1]:{server.port}'")


def test_the_ssh_configuration_is_followed(server, home):
    """Alias, port, user and key; what the URL says goes first."""
    user = server.url.partition("//")[2].partition("@")[0]
    (home / ".ssh/config").write_text(
        f"Host board\n  HostName 127.0.0.1\n  Port {server.port}\n  User {user}\n  IdentityFile {server.identity}\n"
        "  RemoteCommand false\n  RequestTTY force\nHost wrong-port\n  HostName 127.0.0.1\n  Port 1\n"
    )
    opened = connect("ssh://board")
    done = opened.run(["cat"], stdin=[b"as it is\r\n"])
    opened.close()
    assert done.stdout == b"as it is\r\n"
    assert f"[127.0.0.1]:{server.port} " in (paths.config_dir() / "known_hosts").read_text()
    connect(f"ssh://{user}@wrong-port:{server.port}", identity=server.identity).close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"Port abc\n", "config line 1"),
        (b"Host *\n  IdentityFile /not/there\n", "/not/there"),
        (b"\xff\xfe\n", "SSH configuration"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_said(server, home, text, said):
    (home / ".ssh/config").write_bytes(text)
    with pytest.raises(ConfigError, match=said):
        connect(server.url)


def test_a_key_that_is_none_is_said(server, tmp_path):
    (tmp_path / "key").write_text("no key")
    with pytest.raises(UsageError, match="SSH key"):
        connect(server.url, identity=tmp_path / "key")


def test_a_wrong_key_says_the_login_was_refused(server):
    with pytest.raises(DeviceError, match="refused the login"):
        connect(server.url, identity=server.host_key)


def test_nobody_there_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(DeviceError, match="cannot be reached"):
        connect(f"ssh://pi@127.0.0.1:{port}")


@pytest.mark.parametrize(("patience", "raised"), [("20", DeviceError), ("0.5", UsageError), ("long", UsageError)])
def test_patience_with_slow_devices_is_a_factor(monkeypatch, patience, raised):
    monkeypatch.setenv("EDGELOOP_PATIENCE", patience)
    with pytest.raises(raised):
        connect("ssh://pi@127.0.0.1:1")


@pytest.mark.parametrize("url", ["ssh://", "ssh://pi:secret@host", "ftp://host", "ssh://pi@host/path"])
def test_a_wrong_url_is_wrong_use(url):
    with pytest.raises(UsageError):
        connect(url)


def test_a_full_disk_or_forbidden_folder_is_said(device):
    with pytest.raises(DeviceError, match="copying"):
        put_file(device, Path(__file__), DeviceLayout(Path("/proc/nowhere")).state / "x")
