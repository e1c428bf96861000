"""`edgeloop bundle` and `edgeloop keys` as a user types them."""

from __future__ import annotations

import json

import pytest

from edgeloop.bundle import Bundle, TrustStore, check_golden, load_or_create_signing_key
from edgeloop.bundle.manifest import Metrics, Profile, Variant
from edgeloop.cli._bundle_text import variant_line
from edgeloop.cli.main import main
from edgeloop.graph import Graph, Op
from edgeloop.runtime import open_session
from support.bundles import members_of, pack_zip, small_bundle

CONTRACT = """
[input]
kind = "image"
size = [8, 8]
color = "gray"
std = 16.0
[output]
kind = "classification"
"""


@pytest.fixture
def contract(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(CONTRACT)
    return path


def call(capsys, *arguments):
    """(exit code, the JSON object on stdout, stderr)."""
    code = main([*map(str, arguments), "--json"])
    printed = capsys.readouterr()
    return code, json.loads(printed.out), printed.err


def test_create_makes_a_signed_bundle_that_tests_itself(digits_tflite, contract, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, made, notes = call(capsys, "bundle", "create", digits_tflite, "--contract", contract, "--target", "rpi5")
    assert code == 0
    assert made["bundle"] == "digits-1.bundle"
    assert (made["name"], made["version"], made["target"]) == ("digits", 1, "rpi5")
    assert made["variants"][0]["scheme"] == "float"
    assert made["provenance"]["golden_frames"] == "random"
    assert "made your signing key" in notes
    bundle = Bundle.open("digits-1.bundle")
    assert bundle.model() == digits_tflite.read_bytes()
    with open_session(bundle.model()) as session:
        assert check_golden(session, bundle.manifest.contract, bundle.golden(), "digits").passed
    _, again, notes = call(capsys, "bundle", "create", digits_tflite, "--contract", contract)
    assert again["version"] == 2
    assert notes == ""


def test_create_takes_variants_data_labels_and_a_version(digits_tflite, contract, tmp_path, capsys):
    import numpy as np

    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).integers(0, 17, (20, 8, 8, 1), np.uint8))
    (tmp_path / "labels.txt").write_text("\n".join("abcdefghij"))
    tensor = tmp_path / "t.toml"
    tensor.write_text("[input]\nkind = 'tensor'\nshape = [8, 8, 1]\nstd = 16.0\n[output]\nkind = 'classification'\n")
    code, made, _ = call(
        capsys, "bundle", "create", "--variant", f"one={digits_tflite}", "--variant", f"two={digits_tflite}",
        "--contract", tensor, "--labels", tmp_path / "labels.txt", "--data", tmp_path / "d.npz", "--name", "abc",
        "--version", "7", "-o", tmp_path / "x.bundle",
    )  # fmt: skip
    assert code == 0
    assert [v["file"] for v in made["variants"]] == ["models/one.tflite", "models/two.tflite"]
    bundle = Bundle.open(tmp_path / "x.bundle")
    assert bundle.manifest.contract.output.labels == tuple("abcdefghij")
    assert bundle.manifest.version == 7
    assert bundle.manifest.provenance["golden_frames"] == "data"
    assert set(bundle.golden().outputs) == {"one", "two"}


def test_create_says_in_one_line_what_does_not_fit(digits_tflite, contract, tmp_path, capsys):
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(CONTRACT.replace("[8, 8]", "[9, 9]"))
    (tmp_path / "two.txt").write_text("a\nb\n")
    (tmp_path / "cut.tflite").write_bytes(digits_tflite.read_bytes()[:5000])
    for arguments, expected in (
        ([digits_tflite, "--contract", wrong], 2),
        ([digits_tflite, "--contract", contract, "--labels", tmp_path / "two.txt"], 2),
        ([digits_tflite, "--contract", tmp_path / "no.toml"], 2),
        ([contract, "--contract", contract], 2),
        ([tmp_path / "no.tflite", "--contract", contract], 2),
        ([tmp_path / "cut.tflite", "--contract", contract], 4),
        ([digits_tflite, digits_tflite, "--contract", contract], 2),
        (["--variant", "x", "--contract", contract], 2),
        (["--contract", contract], 2),
        ([digits_tflite, "--contract", contract, "--name", "../x"], 2),
        ([digits_tflite, "--contract", contract, "--target", "rpi99"], 2),
    ):
        code, answer, err = call(capsys, "bundle", "create", *arguments)
        assert (code, answer["error"]["exit_code"]) == (expected, expected), arguments
        assert "Traceback" not in err
    assert not list(tmp_path.glob("*.bundle"))


def compiled(source, path):
    """The model as the Edge TPU's compiler leaves one: a single op that no interpreter here knows."""
    graph = Graph.read(source)
    graph.main.ops = [Op("edgetpu-custom-op", list(graph.main.inputs), list(graph.main.outputs), custom=True)]
    graph.save(path)
    return path


def test_a_compiled_model_that_cannot_run_here_must_fit_the_contract_too(digits_tflite, contract, tmp_path, capsys):
    model = compiled(digits_tflite, tmp_path / "digits_edgetpu.tflite")
    fits = [model, "--contract", contract, "-o", tmp_path / "x.bundle"]
    code, _, notes = call(capsys, "bundle", "create", *fits)
    assert code == 0
    assert "what it computes is not checked" in notes
    (tmp_path / "two.txt").write_text("a\nb\n")
    assert call(capsys, "bundle", "create", *fits, "--labels", tmp_path / "two.txt")[0] == 2
    contract.write_text(CONTRACT.replace("[8, 8]", "[32, 32]"))
    code, answer, _ = call(capsys, "bundle", "create", *fits)
    assert code == 2
    assert "[1, 32, 32, 1]" in answer["error"]["message"]
    assert "[1, 8, 8, 1]" in answer["error"]["message"]


def test_inspect_tells_the_evaluation_s_n_from_the_profile_s():
    profile = Profile("this host", "xnnpack", 1, 500, 0.1, 0.2, 0.3)
    variant = Variant("int8", "f", "0" * 64, 9, "int8", (), Metrics("accuracy", 0.9, 0.8, 0.95, 5000), profile)
    line = variant_line(variant, is_first=True)
    assert "evaluated on 5000" in line
    assert "p95 0.200 ms on this host (xnnpack, 1 thread, 500 runs)" in line


def test_inspect_verify_and_sign_tell_the_truth_about_trust(bundle, key, tmp_path, capsys, monkeypatch):
    code, seen, _ = call(capsys, "bundle", "inspect", bundle)
    assert (code, seen["state"], seen["signed_by"]) == (0, "valid", key.fingerprint)
    assert call(capsys, "bundle", "verify", bundle)[1]["signed_by"] == key.fingerprint
    monkeypatch.setenv("EDGELOOP_HOME", str(tmp_path / "elsewhere"))
    code, seen, _ = call(capsys, "bundle", "inspect", bundle)
    assert (code, seen["state"]) == (0, "unknown key")
    code, answer, _ = call(capsys, "bundle", "verify", bundle)
    assert code == 4
    assert key.fingerprint in answer["error"]["message"]
    assert call(capsys, "bundle", "verify", bundle, "--trust", key.public_path)[0] == 0
    assert call(capsys, "bundle", "sign", bundle)[0] == 0
    assert call(capsys, "bundle", "verify", bundle)[0] == 0
    assert Bundle.open(bundle, trust=TrustStore.of(key.public_key)).signed_by == key.fingerprint


def test_inspect_shows_a_tampered_bundle_and_verify_and_sign_refuse_it(bundle, capsys):
    members = {**members_of(bundle), "report.json": b"{}             "}
    members["report.json"] = members["report.json"].ljust(len(members_of(bundle)["report.json"]))
    bundle.write_bytes(pack_zip(members.items()))
    code, seen, _ = call(capsys, "bundle", "inspect", bundle)
    assert (code, seen["state"]) == (0, "tampered")
    assert "report.json" in seen["problem"]
    for verb in ("verify", "sign"):
        assert call(capsys, "bundle", verb, bundle)[0] == 4


def test_inspect_prints_a_summary_for_people(bundle, capsys, key):
    assert main(["bundle", "inspect", str(bundle)]) == 0
    text = capsys.readouterr().out
    for part in ("small 3 for rpi4", key.fingerprint, "int8: int8, 1032 bytes", "xnnpack > cpu", "2 labels: no, yes",
                 "3 samples", "litert >= 2.1"):  # fmt: skip
        assert part in text


def test_text_of_a_stranger_does_not_reach_the_terminal_raw(tmp_path, key, capsys):
    path = small_bundle(tmp_path, key, target="rpi4\x1b[2J\nsigned by nobody")
    assert main(["bundle", "inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "\nsigned by nobody" not in text


def test_unsigned_is_said_and_refused(tmp_path, digits_tflite, contract, capsys):
    path = tmp_path / "u.bundle"
    assert (
        main(["bundle", "create", str(digits_tflite), "--contract", str(contract), "--no-sign", "-o", str(path)]) == 0
    )
    assert "NOT signed" in capsys.readouterr().out
    code, answer, _ = call(capsys, "bundle", "verify", path)
    assert code == 4
    assert "is not signed" in answer["error"]["message"]


def test_keys_show_list_export_trust_and_new(tmp_path, capsys, monkeypatch):
    _, shown, _ = call(capsys, "keys")
    assert shown["created"]
    assert call(capsys, "keys", "show")[1]["created"] is False
    assert [k["fingerprint"] for k in call(capsys, "keys", "list")[1]["keys"]] == [shown["fingerprint"]]
    assert call(capsys, "keys", "export", tmp_path / "me.pub")[0] == 0
    assert call(capsys, "keys", "export")[1]["line"] == (tmp_path / "me.pub").read_text().strip()
    code, answer, _ = call(capsys, "keys", "new")
    assert code == 2
    assert "--replace" in answer["error"]["hint"]
    assert call(capsys, "keys", "new", "--replace")[1]["fingerprint"] != shown["fingerprint"]
    monkeypatch.setenv("EDGELOOP_HOME", str(tmp_path / "device"))
    assert call(capsys, "keys", "list")[1]["keys"] == []
    assert call(capsys, "keys", "trust", tmp_path / "me.pub")[1]["keys"][0]["new"] is True
    assert [k["fingerprint"] for k in call(capsys, "keys", "list")[1]["keys"]] == [shown["fingerprint"]]
    assert call(capsys, "keys", "trust")[0] == 2
    assert call(capsys, "keys", "trust", tmp_path / "no.pub")[0] == 2
    assert call(capsys, "keys", "show", "x")[0] == 2


def test_keys_never_prints_the_private_key(capsys):
    secret = load_or_create_signing_key().path.read_text().splitlines()[1]
    for action in ("show", "list", "export"):
        main(["keys", action])
    assert secret not in capsys.readouterr().out


def test_a_key_in_a_file_of_its_own(tmp_path, capsys):
    code, made, _ = call(capsys, "keys", "new", tmp_path / "server.key")
    assert code == 0 and made["public"] == str(tmp_path / "server.pub")
    assert (tmp_path / "server.key").stat().st_mode & 0o777 == 0o600
    assert call(capsys, "keys", "new", tmp_path / "server.key")[0] == 2
    assert call(capsys, "keys", "new", tmp_path / "server.pub")[0] == 2
    assert call(capsys, "keys", "new", tmp_path / "other.key", "--replace")[0] == 2
