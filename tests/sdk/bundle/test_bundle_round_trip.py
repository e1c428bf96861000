"""What goes into a bundle comes out of it, the same bytes every time."""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeloop.bundle import Bundle, Metrics, Profile, TrustStore, VariantDraft, inspect_bundle, write_bundle
from edgeloop.bundle.manifest import encode_manifest
from edgeloop.bundle.manifest_reading import decode_manifest
from edgeloop.bundle.packer import sign_bundle
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.errors import DataError, RefusedError, UsageError
from support.bundles import NO_MODEL, members_of, small_bundle, small_draft, small_golden


def test_everything_comes_out_as_it_went_in(bundle, key):
    opened = Bundle.open(bundle)
    assert opened.signed_by == key.fingerprint
    assert opened.model() == opened.model("int8") == NO_MODEL
    assert opened.model("float") == NO_MODEL + b"float"
    assert opened.recipe() == "a = 1\n"
    assert opened.report() == {"accuracy": 0.5}
    golden = opened.golden()
    assert golden is not None
    assert golden.n == 3
    assert np.array_equal(golden.inputs[""], small_golden().inputs[""])
    assert np.array_equal(golden.outputs["int8"]["litert"][0], np.ones((3, 2)))
    assert golden.tolerance_steps == {"litert": 2.0, "tflite-runtime": 4.0}


def test_manifest_keeps_metrics_profile_labels_and_provenance(tmp_path, key):
    metrics = Metrics("accuracy", 0.758, 0.7585, 0.967, 5000)
    profile = Profile("rpi4", "xnnpack", 4, 500, 1.5, 2.25, 3.0, True)
    contract = Contract(
        (InputSpec("a b:0", "image", (8, 9), "gray", mean=(1.5,), std=(2.0,)), InputSpec("tokens", shape=(3,))),
        OutputSpec("classification", ("Ä", "日本", 'quote"')),
    )
    draft = small_draft(
        variants=[VariantDraft("v1.2_x-y", NO_MODEL, "int8", ("edgetpu:usb:0",), metrics, profile)],
        contract=contract, golden=None, provenance={"source": {"sha256": "00"}}, float_metrics={"accuracy": 0.758},
    )  # fmt: skip
    written = write_bundle(tmp_path / "b.bundle", draft, key)
    manifest = Bundle.open(tmp_path / "b.bundle").manifest
    assert manifest == written == decode_manifest(encode_manifest(written))
    assert manifest.variants[0].metrics == metrics
    assert manifest.variants[0].profile == profile
    assert manifest.contract == contract
    assert manifest.float_metrics == {"accuracy": 0.758}
    assert manifest.provenance["source"] == {"sha256": "00"}


def test_same_draft_and_key_give_the_same_bytes(tmp_path, key):
    first = small_bundle(tmp_path, key).read_bytes()
    assert small_bundle(tmp_path, key).read_bytes() == first


def test_the_file_is_an_ordinary_zip_and_golden_an_ordinary_npz(bundle):
    members = members_of(bundle)
    assert list(members) == [
        "manifest.json", "signatures.json", "models/int8.tflite", "models/float.tflite", "recipe.toml", "report.json",
        "golden.npz",
    ]  # fmt: skip
    with np.load(io.BytesIO(members["golden.npz"]), allow_pickle=False) as arrays:
        assert arrays["input_0"].shape == (3, 4)
    with zipfile.ZipFile(bundle) as file:
        assert {info.compress_type for info in file.infolist()} == {zipfile.ZIP_LZMA}


def test_a_bundle_without_golden_recipe_or_report_opens(tmp_path, key):
    opened = Bundle.open(small_bundle(tmp_path, key, golden=None, recipe_toml="", report={}))
    assert opened.golden() is None
    assert opened.recipe() == ""
    assert opened.report() == {}


def test_a_large_member_is_read_and_verified_in_pieces(tmp_path, key):
    model = NO_MODEL[:8] + np.random.default_rng(0).bytes(5 << 18)
    path = small_bundle(tmp_path, key, variants=[VariantDraft("int8", model, "int8")])
    assert Bundle.open(path).model() == model


def test_an_unsigned_bundle_opens_only_where_that_is_allowed(tmp_path):
    path = small_bundle(tmp_path, None)
    with pytest.raises(RefusedError, match=r"small\.bundle: is not signed"):
        Bundle.open(path, trust=TrustStore())
    assert Bundle.open(path, trust=TrustStore(), allow_unsigned=True).signed_by is None
    assert inspect_bundle(path)[1] == "unsigned"


def test_a_bundle_of_an_unknown_key_is_refused_with_its_fingerprint_and_the_way_to_trust_it(bundle, key):
    with pytest.raises(RefusedError) as refused:
        Bundle.open(bundle, trust=TrustStore())
    assert key.fingerprint in refused.value.message
    assert "edgeloop keys trust" in refused.value.hint
    assert inspect_bundle(bundle, trust=TrustStore())[1] == "unknown key"
    opened = Bundle.open(bundle, trust=TrustStore(), allow_unsigned=True)
    assert opened.signed_by is None


def test_signing_adds_a_signature_and_keeps_the_others(bundle, key, tmp_path):
    from edgeloop.bundle.keys import load_or_create_signing_key

    second = load_or_create_signing_key(tmp_path / "second")
    before = members_of(bundle)
    sign_bundle(bundle, second)
    for signer in (key, second):
        assert Bundle.open(bundle, trust=TrustStore.of(signer.public_key)).signed_by == signer.fingerprint
    after = members_of(bundle)
    assert {n: c for n, c in after.items() if n != "signatures.json"} == {
        n: c for n, c in before.items() if n != "signatures.json"
    }
    sign_bundle(bundle, second)
    assert members_of(bundle)["signatures.json"] == after["signatures.json"]


def test_drafts_that_no_reader_would_take_are_wrong_use(tmp_path, key):
    path = tmp_path / "x.bundle"
    same = VariantDraft("int8", NO_MODEL, "int8")
    for changes in (
        {"name": "../up"}, {"name": "a b"}, {"name": ""}, {"version": 0}, {"version": True}, {"variants": []},
        {"variants": [same, same]}, {"variants": [VariantDraft("a/b", NO_MODEL, "int8")]},
        {"variants": [VariantDraft("float", NO_MODEL, "float")]},  # golden answers of a variant that is not there
    ):  # fmt: skip
        with pytest.raises(UsageError):
            write_bundle(path, small_draft(**changes), key)
    with pytest.raises(DataError, match="not a"):
        write_bundle(path, small_draft(variants=[VariantDraft("int8", b"PK\x03\x04....", "int8")]), key)
    with pytest.raises(UsageError):
        write_bundle(path, small_draft(report={"x": float("nan")}), key)
    assert not path.exists()


def test_where_it_cannot_be_written_nothing_is_left_behind(tmp_path, key):
    (tmp_path / "small.bundle" / "folder").mkdir(parents=True)
    with pytest.raises(UsageError, match="cannot write"):
        small_bundle(tmp_path, key)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_what_was_verified_is_what_is_returned_though_the_file_changes(bundle, tmp_path, key):
    model = NO_MODEL[:8] + np.random.default_rng(0).bytes(5 << 18)
    path = small_bundle(tmp_path / "large", key, variants=[VariantDraft("int8", model, "int8")], golden=None)
    opened = Bundle.open(path)
    replaced = path.with_suffix(".new")
    replaced.write_bytes(b"something else")
    replaced.replace(path)
    assert opened.model() == model
    opened = Bundle.open(bundle)
    with bundle.open("r+b") as file:  # in place, under the open bundle
        file.seek(0)
        file.write(bytes(bundle.stat().st_size))
    assert opened.model() == NO_MODEL


def test_a_large_model_changed_in_place_after_opening_is_refused(tmp_path, key):
    model = NO_MODEL[:8] + np.random.default_rng(0).bytes(5 << 18)
    path = small_bundle(tmp_path, key, variants=[VariantDraft("int8", model, "int8")], golden=None)
    opened = Bundle.open(path)
    with path.open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"changed!")
    with pytest.raises(RefusedError, match="int8"):
        opened.model()
    os.truncate(path, 1 << 20)
    with pytest.raises(RefusedError, match="cut short"):
        opened.model()


def test_no_file_stays_open(bundle):
    def open_files() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    gc.collect()
    before = open_files()
    for _ in range(3):
        Bundle.open(bundle).model()
    with pytest.raises(RefusedError):
        Bundle.open(bundle, trust=TrustStore())
    gc.collect()
    assert open_files() == before


def test_missing_files_folders_and_pipes_are_wrong_use(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "no.bundle", tmp_path, tmp_path / "pipe"):
        with pytest.raises(UsageError):
            Bundle.open(path)


def test_opening_and_staging_import_neither_numpy_nor_cryptography_nor_zipfile(bundle, tmp_path):
    code = (
        "import sys\nfrom edgeloop.bundle import Bundle\n"
        "bundle = Bundle.open(sys.argv[1])\nassert bundle.signed_by\nbundle.stage(sys.argv[2])\n"
        "heavy = {'numpy', 'cv2', 'cryptography', 'zipfile', 'tensorflow', 'ai_edge_litert'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    arguments = [sys.executable, "-c", code, str(bundle), str(tmp_path / "staged")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_device_node_is_never_replaced_by_a_bundle(tmp_path, key):
    os.mkfifo(tmp_path / "small.bundle")
    with pytest.raises(UsageError, match="no ordinary file"):
        small_bundle(tmp_path, key)
    assert (tmp_path / "small.bundle").is_fifo()
