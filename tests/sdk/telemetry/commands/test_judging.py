"""Whom a device obeys: each way to be refused, and that nothing but the right command is accepted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.bundle.keys import SigningKey, load_or_create_signing_key
from edgeloop.bundle.trust import TrustStore
from edgeloop.telemetry.commands.codec import decode_envelope, encode_envelope
from edgeloop.telemetry.commands.judging import Accepted, Refused, Standing, judge
from edgeloop.telemetry.commands.signing import key_id_of, signed, unsigned
from edgeloop.telemetry.commands.values import Command

ID, BOOT = "00112233445566aa", "0123456789abcdef"
BENCH = Command("bench", ID, {"n": 50}, "pi-1", BOOT, 8, 100.0)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return load_or_create_signing_key(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def standing(key: SigningKey) -> Standing:
    return Standing("pi-1", BOOT, 50.0, 7, TrustStore.of(key.public_key))


def _judge(data: bytes, standing: Standing) -> Accepted | Refused:
    return judge(decode_envelope(data), standing)


def test_an_operators_command_is_accepted(key: SigningKey, standing: Standing) -> None:
    assert _judge(signed(BENCH, key), standing) == Accepted(key.fingerprint)


@pytest.mark.parametrize("kind", ["ping", "info"])
@pytest.mark.parametrize("device", ["", "pi-1"])
def test_anybody_may_ask_who_is_there(standing: Standing, kind: str, device: str) -> None:
    assert _judge(unsigned(Command(kind, ID, device=device)), standing) == Accepted()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "format_disk"}, "unknown kind"),
        ({"device": "pi-2"}, "other device"),
        ({"device": ""}, "other boot"),
        ({"boot": "f" * 16}, "other boot"),
        ({"boot": ""}, "other boot"),
        ({"until_uptime_s": 50.0}, "expired"),
        ({"until_uptime_s": 0.0}, "expired"),
        ({"counter": 7}, "replayed"),
        ({"counter": 0}, "replayed"),
        ({"arguments": {"n": 0}}, "wrong arguments"),
        ({"arguments": {"n": True}}, "wrong arguments"),
        ({"arguments": {"n": "50"}}, "wrong arguments"),
        ({"arguments": {"command": "rm"}}, "wrong arguments"),
        ({"arguments": {"variants": ["a"] * 9}}, "wrong arguments"),
        ({"arguments": {"variants": [1]}}, "wrong arguments"),
        ({"arguments": {"timeout_s": 1e9}}, "wrong arguments"),
        ({"kind": "log_level", "arguments": {}}, "wrong arguments"),
        ({"kind": "log_level", "arguments": {"level": "loud"}}, "wrong arguments"),
    ],
)
def test_a_signed_command_that_is_not_for_here_and_now_is_refused(
    key: SigningKey, standing: Standing, change: dict[str, object], reason: str
) -> None:
    refused = _judge(signed(replace(BENCH, **change), key), standing)  # type: ignore[arg-type]
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.was_checked) == (reason, False)


def test_without_a_signature_of_an_operator_it_is_refused(key: SigningKey, standing: Standing, tmp_path: Path) -> None:
    stranger = load_or_create_signing_key(tmp_path / "other")
    content = decode_envelope(signed(BENCH, key))
    as_if = encode_envelope(content.content, key_id_of(key.fingerprint), stranger.sign(content.content))
    over_bare_bytes = encode_envelope(content.content, content.key_id, key.sign(content.content))
    for data, reason in (
        (unsigned(BENCH), "not signed"),
        (signed(BENCH, stranger), "unknown signer"),
        (as_if, "unknown signer"),
        (over_bare_bytes, "unknown signer"),  # what signs bundles signs no commands
    ):
        refused = _judge(data, standing)
        assert isinstance(refused, Refused)
        assert refused.reason == reason


@given(st.integers(0, 63), st.integers(1, 255))
def test_a_changed_signature_is_forged(key: SigningKey, position: int, flip: int) -> None:
    good = decode_envelope(signed(BENCH, key))
    signature = bytearray(good.signature)
    signature[position] ^= flip
    standing = Standing("pi-1", BOOT, 50.0, 7, TrustStore.of(key.public_key))
    refused = judge(replace(good, signature=bytes(signature)), standing)
    assert isinstance(refused, Refused)
    assert refused.reason == "unknown signer"
