"""A `systemctl` for devices without systemd, and `systemd-sysusers`: it writes down what it is told, and starts what
the unit says as a process of its own. Run as a script by the device's own Python; standard library only.

Its folder is in the variable FAKE_SYSTEMD: calls.log, PID, and with a file `broken` nothing can be started.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

UNIT = "edgeloop-agent.service"


def install(folder: Path) -> str:
    """Lines of sshd's configuration that put it on the PATH of what is run over SSH."""
    folder.mkdir(parents=True)
    script = folder / "systemctl"
    script.write_text(f'#!/bin/sh\nexec /usr/bin/python3 -I {Path(__file__).resolve()} {folder} "$@"\n')
    script.chmod(0o755)
    return f"SetEnv PATH={folder}:/usr/bin:/bin:/usr/sbin:/sbin\n"


def calls(folder: Path) -> list[str]:
    log = folder / "calls.log"
    return log.read_text().splitlines() if log.exists() else []


def forget(folder: Path) -> None:
    """Stop what was started, as at the end of a test."""
    stop(folder)
    for name in ("calls.log", "unit", "broken", "agent.err"):
        (folder / name).unlink(missing_ok=True)


def stop(folder: Path) -> None:
    path = folder / "PID"
    if not path.exists():
        return
    pid = int(path.read_text())
    path.unlink()
    for number in (signal.SIGTERM, signal.SIGKILL):
        for _ in range(100):
            try:
                os.kill(pid, number if number == signal.SIGKILL else (number if _ == 0 else 0))
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    return
            except OSError:
                return
            time.sleep(0.05)


def start(folder: Path) -> int:
    if (folder / "broken").exists():
        print("Job for edgeloop-agent.service failed.", file=sys.stderr)
        return 1
    if (folder / "PID").exists() and Path("/proc", (folder / "PID").read_text()).exists():
        return 0
    unit = Path((folder / "unit").read_text()).read_text().splitlines()
    command = next(line for line in unit if line.startswith("ExecStart=")).removeprefix("ExecStart=")
    with (folder / "agent.err").open("ab") as log:
        process = subprocess.Popen(
            shlex.split(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    (folder / "PID").write_text(str(process.pid))
    return 0


def main(folder: Path, words: list[str]) -> int:
    with (folder / "calls.log").open("a") as log:
        log.write(" ".join(words) + "\n")
    words = [word for word in words if word != "--user"]
    verb, now = words[0], "--now" in words
    if verb == "enable":
        (folder / "unit").write_text(words[-1])
    if verb in ("restart", "stop") or (verb == "disable" and now):
        stop(folder)
    return start(folder) if verb in ("start", "restart") else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
