"""A signed exception for an older bundle: what it says, whom it binds, and that it changes nothing else."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeloop.bundle import Bundle, TrustStore, load_or_create_signing_key
from edgeloop.bundle.allowances import (
    Exemption,
    SignedAllowance,
    decode_allowances,
    judge_allowances,
    make_allowance,
    read_allowance,
)
from edgeloop.bundle.keys import create_signing_key
from edgeloop.bundle.packer import allow_older, sign_bundle
from edgeloop.cli.main import main
from edgeloop.errors import RefusedError, UsageError
from support.agents import make_bundle

MANIFEST = b'{"a":1}'
DAY_S = 86_400


def judged(signed: SignedAllowance, *, raw: bytes = MANIFEST, device: str = "pi-1", after_s: float = 0.0) -> Exemption:
    trust = TrustStore.of(load_or_create_signing_key().public_key)
    return judge_allowances(raw, [signed], trust, device, time.time() + after_s)


def test_it_holds_for_this_bundle_on_these_devices_until_its_end() -> None:
    key = load_or_create_signing_key()
    assert judged(make_allowance(MANIFEST, key)) == Exemption(holds=True)
    for_one = make_allowance(MANIFEST, key, ["pi-1"], time.time() + DAY_S)
    assert judged(for_one).holds
    assert judged(for_one, device="pi-2").reason == "is for other devices than pi-2"
    assert judged(for_one, raw=b"{}").reason == "was signed for another bundle"
    assert judged(for_one, after_s=2 * DAY_S).reason.startswith("ended on 20")
    assert "clock here says" in judged(for_one, after_s=-10 * 365 * DAY_S).reason


def test_only_a_trusted_key_may_sign_one(tmp_path: Path) -> None:
    stranger = create_signing_key(tmp_path / "stranger")
    assert "not trusted here" in judged(make_allowance(MANIFEST, stranger)).reason
    signed = make_allowance(MANIFEST, load_or_create_signing_key(), ["pi-1"])
    altered = replace(signed, statement=signed.statement.replace(b"pi-1", b"pi-2"))
    assert judged(altered, device="pi-2").reason == "was changed after it was signed"
    # A signature over a manifest is none over an exception.
    assert not judged(replace(signed, statement=MANIFEST)).holds


def test_what_nobody_can_mean_is_refused_when_it_is_signed() -> None:
    key = load_or_create_signing_key()
    for devices, until_s in ((["a"] * 300, None), (["x" * 65], None), ([""], None), ([], time.time() - 1)):
        with pytest.raises(UsageError):
            make_allowance(MANIFEST, key, devices, until_s)


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b'{"format":"edgeloop-allow-older"}', b"\xff"])
def test_a_damaged_statement_is_refused(damage: bytes) -> None:
    with pytest.raises(RefusedError):
        read_allowance(damage)


def test_the_bundle_stays_the_same_bundle(tmp_path: Path) -> None:
    key, path = load_or_create_signing_key(), make_bundle(tmp_path / "6.bundle", version=6)
    before = Bundle.open(path)
    assert before.exemption("pi-1") == Exemption()
    allow_older(path, key)
    allow_older(path, key, ["pi-1"])  # the same key: in place of the first
    after = Bundle.open(path)
    assert after.raw_manifest == before.raw_manifest and after.model() == before.model()
    assert len(decode_allowances(after.raw_signatures())) == 1
    assert after.exemption("pi-1").holds and not after.exemption("pi-2").holds
    sign_bundle(path, key)
    assert Bundle.open(path).exemption("pi-1").holds


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = make_bundle(tmp_path / "6.bundle", version=6), tmp_path / "out.bundle"

    def call(*more: str) -> tuple[int, dict[str, Any]]:
        code = main(["bundle", "allow-older", str(path), "-o", str(out), *more, "--json"])
        return code, json.loads(capsys.readouterr().out)

    code, done = call("--device", "pi-1", "--until", "2099-12-31")
    assert (code, done["bundle"], done["devices"], done["until"]) == (0, str(out), ["pi-1"], 4102444799)
    assert Bundle.open(out).exemption("pi-1").holds
    assert main(["bundle", "inspect", str(out)]) == 0
    assert "allowed  after a higher version on pi-1, until 2099-12-31 23:59 UTC; signed by" in capsys.readouterr().out
    assert call("--until", "soon")[0] == 2
    assert call("--until", "2001-01-01")[0] == 2
    path.write_bytes(make_bundle(path, version=6, signed=False).read_bytes())
    assert call()[0] == 4
