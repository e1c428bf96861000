"""Twenty hosts at once: ten addresses of loopback on each of two real sshd, a root folder for each, the agent really
unpacked and the bundle really rehearsed in each."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from edgeloop import paths
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.deploy.remote import Deployed, deploy, plan_deploy
from edgeloop.deploy.rollout import Pace, roll_out
from edgeloop.devices import agent_site, connect
from edgeloop.devices.agent_site import pack_own_code
from edgeloop.progress import SilentProgress
from support.agents import make_bundle
from support.sshd import ssh_server

HOSTS = 20


@pytest.mark.slow
def test_twenty_hosts_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = pack_own_code()
    monkeypatch.setattr(agent_site, "pack_own_code", lambda: own)
    tensor = Contract((InputSpec("image", "tensor"),), OutputSpec("raw"))  # all that a slim agent takes
    bundle = make_bundle(tmp_path / "7.bundle", contract=tensor)
    plan = plan_deploy(bundle, settings={"source": "synthetic:"}, slim=True, with_service=False)
    # An sshd listens on 16 addresses at most.
    with ssh_server(tmp_path / "a", hosts=HOSTS // 2) as one, ssh_server(tmp_path / "b", hosts=HOSTS // 2) as other:
        user = urlsplit(one.url).username
        servers = {
            f"ssh://{user}@127.0.0.{number + 1}:{server.port}": server
            for server in (one, other)
            for number in range(HOSTS // 2)
        }
        urls = list(servers)

        def work(url: str) -> Deployed:
            root = tmp_path / "roots" / urlsplit(url).netloc.rpartition("@")[2].replace(":", "-")
            device = connect(url, identity=servers[url].identity)
            try:
                return deploy(device, replace(plan, prefix=str(root)), SilentProgress())
            finally:
                device.close()

        began_s = time.monotonic()
        outcomes = roll_out(urls, work, Pace(parallel=4, canary=1))
        took_s = time.monotonic() - began_s
    assert [o.error for o in outcomes if o.error is not None] == []
    assert [o.done.state for o in outcomes if o.done is not None] == ["installed"] * HOSTS
    known = (paths.config_dir() / "known_hosts").read_text().splitlines()
    assert len({line.split()[0] for line in known}) == len(known) == HOSTS
    links = list((tmp_path / "roots").glob("*/var/lib/edgeloop/agent/installed/digits/current.bundle"))
    assert [link.resolve().is_file() for link in links] == [True] * HOSTS
    print(f"{HOSTS} hosts in {took_s:.0f} s, the slowest {max(o.seconds for o in outcomes):.0f} s")
