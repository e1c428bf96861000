"""Bundles whose first variant was compiled for an accelerator, on boards without one: what runs instead."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeloop_agent
from edgeloop.bundle import Bundle, BundleDraft, VariantDraft, load_or_create_signing_key, write_bundle
from edgeloop.errors import DelegateError
from edgeloop.runtime.libedgetpu import crash_hint
from support.agents import CONTRACT, Agents, digits_int8, frames
from support.delegate_lib import RESHAPE, build_delegate
from support.edgetpu import compiled


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write(tmp_path / "coral.bundle", "edgetpu", "int8", "second")


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


@pytest.fixture
def source(tmp_path: Path) -> str:
    np.savez(tmp_path / "x.npz", x=frames(20))
    return f"npz:{tmp_path}/x.npz"


def write(path: Path, *names: str) -> Path:
    """Variants of these names; `edgetpu` is compiled."""
    int8 = digits_int8()
    variants = [
        VariantDraft("edgetpu", compiled(int8), "int8, compiled", ("edgetpu",))
        if name == "edgetpu"
        else VariantDraft(name, int8, "int8", ("xnnpack", "cpu"))
        for name in names
    ]
    write_bundle(path, BundleDraft("coral", 3, "coral-usb", CONTRACT, variants), load_or_create_signing_key())
    return path


def test_without_the_chip_the_variant_behind_it_runs(bundle: Path) -> None:
    with edgeloop_agent.open(bundle) as model:
        assert (model.variant, model.ran_on.ran) == ("int8", "xnnpack")
        assert [failure.delegate for failure in model.failures] == ["edgetpu"]
        assert model(frames(1)[0]).label
    with edgeloop_agent.open(bundle, delegates=["edgetpu:usb:0", "cpu"]) as model:
        assert (model.variant, model.ran_on.ran) == ("int8", "cpu")
    with edgeloop_agent.open(bundle, variant="second") as model:
        assert (model.variant, model.failures) == ("second", ())


@pytest.mark.parametrize("asked", [{"variant": "edgetpu"}, {"delegates": ["edgetpu"]}])
def test_what_was_named_is_not_replaced(bundle: Path, asked: dict[str, object]) -> None:
    with pytest.raises(DelegateError, match="edgetpu"):
        edgeloop_agent.open(bundle, **asked)  # type: ignore[arg-type]


def test_delegates_and_variants_of_a_manifest(bundle: Path, tmp_path: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    assert manifest.fallback_order() == ("edgetpu", "xnnpack", "cpu")
    assert manifest.fallback_order("edgetpu") == ("edgetpu",)
    assert manifest.fallback_order("second") == ("xnnpack", "cpu")
    wanted = {
        "edgetpu": "edgetpu", "edgetpu:pci:0": "edgetpu", "external:/usr/lib/libedgetpu.so.1": "edgetpu",
        "xnnpack": "int8", "cpu": "int8", "gpu": "int8",
    }  # fmt: skip
    assert {delegate: manifest.variant_for(delegate).name for delegate in wanted} == wanted
    assert manifest.variant_for("cpu", "edgetpu").name == "edgetpu"
    alone = replace(manifest, variants=manifest.variants[:1])
    assert (alone.fallback_order(), alone.variant_for("cpu").name) == (("edgetpu",), "edgetpu")
    turned = Bundle.open(write(tmp_path / "turned.bundle", "int8", "edgetpu")).manifest
    assert (turned.fallback_order(), turned.variant_for("edgetpu").name) == (("xnnpack", "cpu"), "int8")


def test_the_agent_falls_back_and_says_which_variant_ran(agents: Agents, bundle: Path, source: str) -> None:
    code, summary, said = agents.run("--bundle", bundle, "--source", source)
    assert code == 0, said
    assert (summary["variant"], summary["delegate_ran"], summary["inferences"]) == ("int8", "xnnpack", 20)
    (fallback,) = summary["fallbacks"]
    assert fallback.startswith("edgetpu -> xnnpack")
    assert "coral 3 (int8) runs on xnnpack" in said


@pytest.mark.slow
def test_the_governor_takes_what_runs_as_its_main_variant(agents: Agents, bundle: Path, source: str) -> None:
    code, summary, said = agents.run("--bundle", bundle, "--source", source, "--latency-budget", "500")
    assert code == 0, said
    assert (summary["variant"], summary["inferences"], summary["restarts"]) == ("int8", 20, 0)


def test_a_variant_that_was_named_fails_without_its_chip(agents: Agents, bundle: Path, source: str) -> None:
    code, summary, said = agents.run("--bundle", bundle, "--source", source, "--variant", "edgetpu")
    assert code == 3, said
    assert (summary["variant"], summary["inferences"]) == ("edgetpu", 0)


@pytest.mark.slow
def test_libraries_are_found_by_name_and_devices_are_asked_for(agents: Agents, tmp_path: Path, source: str) -> None:
    """Our own delegate under the names of Coral's and the GPU's: it has no device at all."""
    for name in ("libedgetpu.so.1", "libtensorflowlite_gpu_delegate.so"):
        shutil.copy(build_delegate(), tmp_path / name)
    code, summary, said = agents.run(
        "--bundle", write(tmp_path / "b.bundle", "int8"), "--source", source,
        "--delegate", "edgetpu:usb:0", "--delegate", "edgetpu:pci:1", "--delegate", f"gpu?claim_op={RESHAPE}",
        env={"LD_LIBRARY_PATH": str(tmp_path)},
    )  # fmt: skip
    assert code == 0, said
    assert summary["fallbacks"] == [
        "edgetpu:usb:0 -> edgetpu:pci:1: xdelegate: no device usb:0",
        f"edgetpu:pci:1 -> gpu?claim_op={RESHAPE}: xdelegate: no device pci:1",
    ]
    assert (summary["delegate_ran"], summary["delegated_ops"]) == ("gpu", 1)


def test_a_gpu_library_says_what_it_lacks(agents: Agents, tmp_path: Path, source: str) -> None:
    code, summary, said = agents.run(
        "--bundle", write(tmp_path / "b.bundle", "int8"), "--source", source, "--delegate", "gpu", "--delegate", "cpu"
    )
    assert code == 0, said
    assert summary["fallbacks"] == ["gpu -> cpu: libtensorflowlite_gpu_delegate.so is not installed"]


@pytest.mark.parametrize(("compiler", "is_explained"), [("6.3.0 20170516", True), ("14.2.0", False)])
def test_a_crash_of_googles_own_libedgetpu_is_explained(compiler: str, is_explained: bool, tmp_path: Path) -> None:
    library = tmp_path / "usr/lib/libedgetpu.so.1.0"
    library.parent.mkdir(parents=True)
    library.write_bytes(f"\0COMPILER={compiler},DATE=redacted,TIME=redacted\0".encode())
    for delegate in ("edgetpu", "edgetpu:usb:0", "edgetpu?x=1"):
        hint = crash_hint(delegate, "ai-edge-litert 2.3.0", tmp_path)
        assert ("crashes with ai-edge-litert 2.3.0; get https" in hint) is is_explained
    assert not crash_hint("xnnpack", "ai-edge-litert 2.3.0", tmp_path)
    assert not crash_hint("edgetpu", "tflite-runtime 2.5.0", tmp_path)
