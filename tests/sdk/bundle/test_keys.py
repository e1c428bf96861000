"""Keys: made once, kept private, refused when others can read them; trust is what was given, nothing more."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edgeloop import paths
from edgeloop.bundle import PublicKey, TrustStore, load_or_create_signing_key
from edgeloop.bundle.keys import create_signing_key, load_signing_key, trust_key
from edgeloop.bundle.trust import fingerprint, is_valid_signature, read_public_keys
from edgeloop.errors import ConfigError, RefusedError, UsageError
from support.bundles import members_of, pack_zip

# RFC 8032, section 7.1
RFC_VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("public", "message", "signature"), RFC_VECTORS)
def test_verification_follows_the_rfc(public, message, signature):
    key, text, good = (bytes.fromhex(x) for x in (public, message, signature))
    assert is_valid_signature(key, good, text)
    assert not is_valid_signature(key, good, text + b"x")
    for position in (0, 31, 32, 63):
        changed = bytearray(good)
        changed[position] ^= 1
        assert not is_valid_signature(key, bytes(changed), text)


def test_a_second_spelling_of_a_signature_is_invalid():
    key, text, good = (bytes.fromhex(x) for x in RFC_VECTORS[0])
    order = 2**252 + 27742317777372353535851937790883648493
    again = good[:32] + (int.from_bytes(good[32:], "little") + order).to_bytes(32, "little")
    assert not is_valid_signature(key, again, text)
    assert not is_valid_signature(key, good + b"\0", text)
    assert not is_valid_signature(key[:31], good, text)


@pytest.mark.parametrize("y", [0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18])
def test_keys_that_anybody_can_sign_for_are_no_keys(y):
    for sign in (0, 1 << 255):
        with pytest.raises(ConfigError, match="weak"):
            PublicKey((y | sign).to_bytes(32, "little"))


def test_the_key_is_made_once_and_private():
    first = load_or_create_signing_key()
    again = load_or_create_signing_key()
    assert first.created
    assert not again.created
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint.startswith("el:")
    assert len(first.fingerprint) == 3 + 24 + 5
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(first.path.parent.stat().st_mode) == 0o700
    assert first.path.parent == paths.config_dir() / "keys"
    assert is_valid_signature(first.public_key.raw, again.sign(b"x"), b"x")
    assert "PRIVATE" not in repr(first)


def test_a_private_key_that_others_can_read_is_refused_with_the_fix():
    key = load_or_create_signing_key()
    for mode in (0o640, 0o604, 0o666):
        key.path.chmod(mode)
        with pytest.raises(RefusedError, match="can be read by others") as refused:
            load_or_create_signing_key()
        assert refused.value.hint.startswith(f"chmod 600 {key.path}")
    key.path.chmod(0o600)
    assert load_or_create_signing_key().fingerprint == key.fingerprint


@pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_damaged_private_key_is_one_line_and_is_not_replaced(content):
    path = paths.config_dir() / "keys" / "signing.key"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="not a private key"):
        load_or_create_signing_key()
    assert path.read_bytes() == content


def test_a_key_of_another_kind_is_refused(tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

    path = tmp_path / "signing.key"
    path.touch(0o600)
    path.write_bytes(
        generate_private_key(SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(ConfigError, match="not an Ed25519 key"):
        load_signing_key(path)


def test_a_new_key_keeps_the_old_one_aside_and_trusted():
    old = load_or_create_signing_key()
    with pytest.raises(UsageError, match="already"):
        create_signing_key()
    new = create_signing_key(replace=True)
    assert new.fingerprint != old.fingerprint
    assert load_or_create_signing_key().fingerprint == new.fingerprint
    assert set(TrustStore.default().keys) >= {old.fingerprint, new.fingerprint}


def test_the_public_file_is_one_line_and_mended_when_lost():
    key = load_or_create_signing_key()
    text = key.public_path.read_text()
    assert text.startswith("edgeloop-ed25519 ")
    assert text.count("\n") == 1
    key.public_path.unlink()
    load_or_create_signing_key()
    assert key.public_path.read_text() == text


def test_two_processes_that_make_the_first_key_get_the_same_one():
    code = "from edgeloop.bundle import load_or_create_signing_key as f; print(f().fingerprint)"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({process.communicate()[0] for process in running}) == 1
    assert [process.returncode for process in running] == [0] * 4


def test_trusting_a_key_makes_its_bundles_good_here(bundle, key, tmp_path, monkeypatch):
    from edgeloop.bundle import Bundle

    public = tmp_path / "alice.pub"
    public.write_text("# Alice's\n\n" + key.public_key.to_text())
    monkeypatch.setenv("EDGELOOP_HOME", str(tmp_path / "other-machine"))
    with pytest.raises(RefusedError, match="not trusted"):
        Bundle.open(bundle)
    [(trusted, path, is_new)] = trust_key(public)
    assert trusted.fingerprint == key.fingerprint
    assert is_new
    assert path.parent == tmp_path / "other-machine/config/trusted"
    assert Bundle.open(bundle).signed_by == key.fingerprint
    assert trust_key(public)[0][2] is False


def test_a_store_of_given_paths_holds_these_keys_only(key, tmp_path):
    stranger = load_or_create_signing_key(tmp_path / "stranger")
    assert set(TrustStore.from_paths([stranger.public_path]).keys) == {stranger.fingerprint}
    assert set(TrustStore.from_paths([tmp_path / "stranger"]).keys) == {stranger.fingerprint}
    assert TrustStore.from_paths([]).keys == {}
    for missing in (tmp_path / "no.pub", key.path):
        with pytest.raises(ConfigError):
            TrustStore.from_paths([missing])


def test_a_damaged_key_file_does_not_lock_out_the_others(bundle, key):
    trusted = paths.config_dir() / "trusted"
    trusted.mkdir(parents=True)
    (trusted / "bad.pub").write_text("edgeloop-ed25519 !!!!\n")
    (trusted / "large.pub").write_bytes(b"#" * 100_000)
    store = TrustStore.default()
    assert key.fingerprint in store.keys
    assert len(store.problems) == 2
    from edgeloop.bundle import Bundle

    with pytest.raises(RefusedError) as refused:
        Bundle.open(bundle, trust=TrustStore({}, store.problems))
    assert "bad.pub" in refused.value.hint


def test_keys_that_anybody_could_have_put_there_are_not_trusted(key):
    trusted = paths.config_dir() / "trusted"
    trusted.mkdir(parents=True)
    file = trusted / "a.pub"
    file.write_text(key.public_key.to_text())
    file.chmod(0o666)
    assert "changed by anybody" in TrustStore.default().problems[0]
    with pytest.raises(ConfigError, match="changed by anybody"):
        TrustStore.from_paths([file])
    file.chmod(0o644)
    trusted.chmod(0o777)
    assert "changed by anybody" in TrustStore.default().problems[0]


def test_the_store_verifies_and_says_why_not(key):
    store = TrustStore.of(key.public_key)
    assert store.verify(b"x", key.sign(b"x"), key.fingerprint) == key.public_key
    with pytest.raises(RefusedError, match="changed after"):
        store.verify(b"y", key.sign(b"x"), key.fingerprint)
    with pytest.raises(RefusedError, match="not trusted here") as refused:
        store.verify(b"x", key.sign(b"x"), fingerprint(b"\2" * 32))
    # Shown by every verb of `edgeloop`, and not all of them have --trust.
    assert "edgeloop keys trust KEYFILE.pub (on a device: edgeloop-agent run --trust" in str(refused.value.hint)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519 AAAA x",
        "edgeloop-ed25519",
        "edgeloop-ed25519 AAAA",
        "edgeloop-ed25519 " + "A" * 44,
        "\x00" * 9,
        "ü",
    ],
)
def test_lines_that_are_no_key_are_refused(tmp_path, text):
    path = tmp_path / "x.pub"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="public key"):
        read_public_keys(path)


def test_a_comment_cannot_write_to_the_terminal():
    key = load_or_create_signing_key().public_key
    line = f"{key.to_text().split()[0]} {key.to_text().split()[1]} nice\x1b[2J\u202e key"
    assert PublicKey.from_text(line).comment == "nice[2J key"


_BLOCK = "import sys\nfor name in {names!r}: sys.modules[name] = None\n"


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_a_device_without_compiled_packages_verifies_and_refuses(bundle, tmp_path):
    members = members_of(bundle)
    members["manifest.json"] = members["manifest.json"].replace(b'"version":3', b'"version":4')
    (tmp_path / "changed.bundle").write_bytes(pack_zip(members.items()))
    code = _BLOCK.format(names=["cryptography", "numpy", "cv2"]) + (
        "from edgeloop.bundle import Bundle\nfrom edgeloop.errors import RefusedError\n"
        "assert Bundle.open(sys.argv[1]).signed_by\n"
        "try: Bundle.open(sys.argv[2])\nexcept RefusedError: sys.exit(0)\nsys.exit('accepted')"
    )
    done = run(code, bundle, tmp_path / "changed.bundle")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("blocked", [[], ["cryptography"]])
def test_verification_does_not_hang_on_a_private_part_of_the_library(blocked):
    code = _BLOCK.format(names=blocked) + (
        "from edgeloop.bundle.trust import _is_valid_by_public_interface as valid\n"
        "key, message, signature = map(bytes.fromhex, sys.argv[1:])\n"
        "sys.exit(not (valid(key, signature, message) and not valid(key, signature, message + b'x')))"
    )
    done = run(code, *RFC_VECTORS[1])
    assert done.returncode == 0, done.stderr


def test_signing_without_cryptography_names_the_extra():
    code = _BLOCK.format(names=["cryptography"]) + (
        "from edgeloop.bundle import load_or_create_signing_key as f\nfrom edgeloop.errors import MissingExtraError\n"
        "try: f()\nexcept MissingExtraError as e: sys.exit(0 if 'edgeloop[keys]' in e.hint else 1)\nsys.exit(2)"
    )
    assert run(code).returncode == 0


def test_a_key_file_that_is_not_there_says_which_was_meant_or_who_writes_one(tmp_path: Path) -> None:
    (tmp_path / "owner.pub").write_text(PublicKey(bytes(range(32))).to_text())
    with pytest.raises(ConfigError) as near:
        TrustStore.from_paths([tmp_path / "onwer.pub"])
    assert near.value.hint == f"did you mean {tmp_path / 'owner.pub'}?"
    with pytest.raises(ConfigError) as none:
        TrustStore.from_paths([tmp_path / "zzz"])
    assert "edgeloop keys export" in str(none.value.hint)
