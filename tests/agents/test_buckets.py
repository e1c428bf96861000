"""Shape buckets on the device: which variant runs a sample, what is opened, what is counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import edgeloop_agent
from edgeloop.bundle import Bundle, BundleDraft, VariantDraft, load_or_create_signing_key, write_bundle
from edgeloop.bundle.manifest import encode_manifest
from edgeloop.bundle.manifest_reading import decode_manifest
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.errors import DataError, DelegateError, RefusedError, UsageError
from edgeloop_agent.worker.buckets import Buckets
from support.agents import Agents
from support.tiny_models import tiny_mlp

CONTRACT = Contract((InputSpec("features", "tensor", shape=(-1,)),), OutputSpec("classification", ("a", "b", "c")))
SIZES = (8, 4, 16)


def write(path: Path, sizes: tuple[int, ...] = SIZES, contract: Contract = CONTRACT, **changes: object) -> Path:
    variants = [
        VariantDraft(f"float-{n}", tiny_mlp(features=n), "float", ("xnnpack", "cpu"), input_shapes=((n,),))
        for n in sizes
    ]
    draft = BundleDraft("buckets", 1, "generic-x86-64", contract, variants, **changes)  # type: ignore[arg-type]
    write_bundle(path, draft, load_or_create_signing_key())
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write(tmp_path / "b.bundle")


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


def test_a_sample_runs_on_the_smallest_that_holds_it(bundle: Path) -> None:
    with edgeloop_agent.open(bundle) as model:
        ran = [model(np.arange(1, n + 1, dtype=np.float32)).variant for n in (1, 4, 5, 8, 9, 16)]
        assert ran == ["float-4", "float-4", "float-8", "float-8", "float-16", "float-16"]
        padded = np.zeros(16, np.float32)
        padded[:3] = 1
        assert model(padded).variant == "float-4"
        with pytest.raises(DataError, match="larger than the largest shape of this bundle: 16"):
            model(np.ones(17, np.float32))


def test_a_padded_sample_is_answered_as_the_short_one(bundle: Path) -> None:
    short, padded = np.array([1.0, 2, 3], np.float32), np.array([1.0, 2, 3, 0, 0, 0, 0], np.float32)
    with edgeloop_agent.open(bundle) as model:
        assert model(short).top == model(padded).top


def test_a_variant_that_is_named_runs_everything_it_holds(bundle: Path) -> None:
    with edgeloop_agent.open(bundle, variant="float-8") as model:
        assert model(np.ones(2, np.float32)).variant == ""
        with pytest.raises(DataError, match=r"larger than \[8\]"):
            model(np.ones(9, np.float32))


def test_interpreters_open_when_they_are_needed(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    opened: list[str] = []

    def open_one(variant):  # type: ignore[no-untyped-def]
        from edgeloop.runtime import open_session
        from edgeloop_agent.worker.pipeline import build_pipeline

        opened.append(variant.name)
        if variant.name == "float-16":
            raise DelegateError("not on this chip")
        return build_pipeline(open_session(tiny_mlp(features=variant.input_shapes[0][0])), manifest.contract)

    pipeline = Buckets(manifest.buckets(), manifest.contract, open_one).pipeline
    assert opened == ["float-8"]
    pipeline.prepare(np.ones(3, np.float32))
    pipeline.prepare(np.ones(2, np.float32))
    assert opened == ["float-8", "float-4"]
    with pytest.raises(DelegateError):
        pipeline.prepare(np.ones(12, np.float32))
    pipeline.close()


def test_the_agent_says_which_ran_in_lines_summary_and_reports(bundle: Path, tmp_path: Path, agents: Agents) -> None:
    rows = np.zeros((30, 20), np.float32)
    for i, length in enumerate((3, 7, 12) * 9 + (20, 3, 3)):
        rows[i, :length] = 1
    np.savez(tmp_path / "x.npz", features=rows)
    code, summary, said = agents.run(
        "--bundle", bundle, "--source", f"npz:{tmp_path}/x.npz", "--sink", f"jsonl:{tmp_path}/out.jsonl"
    )
    assert code == 0
    assert summary["variants"] == {"float-4": 11, "float-8": 9, "float-16": 9}
    assert (summary["inferences"], summary["errors"]) == (29, 1)
    assert "larger than the largest shape" in said
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["variant"] for line in lines[:3]] == ["float-4", "float-8", "float-16"]


def test_shapes_that_are_not_the_contracts_are_refused(bundle: Path, tmp_path: Path) -> None:
    assert [v.name for v in Bundle.open(bundle).manifest.buckets()] == ["float-8", "float-4", "float-16"]
    fixed = Contract((InputSpec("features", "tensor", shape=(8,)),), CONTRACT.output)
    with pytest.raises(UsageError, match="variant float-4: input_shapes are not the contract's"):
        write(tmp_path / "bad.bundle", contract=fixed)
    manifest = Bundle.open(bundle).manifest
    raw = encode_manifest(manifest).replace(b'"input_shapes":[[16]]', b'"input_shapes":[[0]]')
    with pytest.raises(RefusedError, match="float-16"):
        decode_manifest(raw)


def test_one_shape_alone_is_no_bucket(tmp_path: Path) -> None:
    path = write(tmp_path / "one.bundle", sizes=(8,))
    assert Bundle.open(path).manifest.buckets() == ()
    with edgeloop_agent.open(path) as model:
        assert model(np.ones(3, np.float32)).label in ("a", "b", "c")
