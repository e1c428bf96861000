"""What `deploy` runs on a device by the device's own Python (3.10, standard library only), as texts."""

from __future__ import annotations

# Run on the device, as root where there is one. argv: paths of config, state, agents, then of public keys.
LOOK = r"""
import json, os, pwd, shutil, sys
config, state, agents, *trust = sys.argv[1:]
def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(1 << 20)
    except FileNotFoundError:
        return None
def owner(path):
    try:
        return pwd.getpwuid(os.stat(path).st_uid).pw_name
    except (OSError, KeyError):
        return ""
def link(path):
    try:
        return os.readlink(path)
    except OSError:
        return None
keys = {}
for place in trust:
    files = [place] if os.path.isfile(place) else []
    if os.path.isdir(place):
        files = [os.path.join(place, name) for name in sorted(os.listdir(place)) if name.endswith(".pub")]
    for path in files:
        keys[path] = read(path)
print(json.dumps({"config": read(config), "owner": owner(state), "agent": link(os.path.join(agents, "current")),
    "keys": keys, "has_systemctl": shutil.which("systemctl") is not None}))
"""

# Changes that belong together, one rename each, in order. stdin: [[kind, path, content or null], ...].
SETTLE = r"""
import json, os, sys
os.umask(0o022)
for kind, path, content in json.load(sys.stdin):
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    fresh = path + ".partial"
    if os.path.lexists(fresh):
        os.unlink(fresh)
    if content is None:
        if os.path.lexists(path):
            os.unlink(path)
    elif kind == "link":
        os.symlink(content, fresh)
        os.rename(fresh, path)
    else:
        with open(fresh, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(fresh, path)
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
"""

# Holds the lock as long as the host's connection lasts.
HOLD = r"""
import fcntl, os, sys
os.makedirs(os.path.dirname(sys.argv[1]), exist_ok=True)
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("busy", flush=True)
    sys.exit(1)
print("held", flush=True)
sys.stdin.buffer.read()
"""
