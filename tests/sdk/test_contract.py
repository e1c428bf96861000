"""The contract: TOML in, values out, clear words for what is wrong."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.contract import Contract, InputSpec, OutputSpec, load_contract
from edgeloop.contract_files import load_gallery, load_labels
from edgeloop.errors import ConfigError, EdgeloopError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(text)
    return path


def test_reads_the_documented_example(tmp_path):
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    contract = load_contract(
        write(
            tmp_path,
            '[input]\nkind = "image"\nsize = [96, 96]\ncolor = "rgb"\nmean = 0.0\nstd = 255.0\nresize = "stretch"\n'
            '[output]\nkind = "classification"\nlabels = "labels.txt"\n',
        )
    )
    assert contract.inputs == (InputSpec(kind="image", size=(96, 96), std=(255.0,)),)
    assert contract.output == OutputSpec("classification", ("cat", "dog"))


def test_several_inputs_are_tables_by_name(tmp_path):
    contract = load_contract(write(tmp_path, '[input.a]\nkind = "tensor"\nshape = [3]\n[input.b]\nkind = "tensor"\n'))
    assert [i.name for i in contract.inputs] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"\[input\] table is missing"),
        ("[input]\nkind = 'picture'\n", "picture"),
        ("[input]\nkind = 'image'\n", "size"),
        ("[input]\nkind = 'image'\nsize=[4,4]\nmean=[1,2]\n", "mean needs 1 or 3"),
        ("[input]\nstd = 0\n", "std"),
        ("[input]\nsclae = 1\n", "sclae"),
        ("[inputs]\nkind = 'tensor'\n", "inputs"),
        ("[input]\nmean = 'zero'\n", "mean"),
        ("[input]\nkind='tensor'\n[output]\nkind='guess'\n", "guess"),
        ("[input]\nkind='tensor'\n[output]\nlabels='absent.txt'\n", "absent.txt"),
        ("[input\n", "c.toml"),
    ],
)
def test_a_wrong_contract_is_one_clear_config_error(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said):
        load_contract(write(tmp_path, text))


def test_a_size_makes_an_image_and_nothing_else(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[input]\nsize = [8, 8]\ncolor = 'gray'\n")
    (spec,) = load_contract(path).inputs
    assert (spec.kind, spec.sample_shape) == ("image", (8, 8, 1))
    path.write_text("[input]\nkind = 'tensor'\nsize = [8, 8]\n")
    with pytest.raises(ConfigError, match="size is an image's"):
        load_contract(path)


def test_labels_that_are_not_there_are_said_plainly(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.txt: No such file or directory$"):
        load_labels(tmp_path / "no.txt")


def test_files_of_windows_editors_are_read(tmp_path):
    """A byte order mark in front and carriage returns at the ends: neither may become part of a label."""
    (tmp_path / "labels.txt").write_bytes(b"\xef\xbb\xbfcat\r\ndog\r\n")
    assert load_labels(tmp_path / "labels.txt") == ("cat", "dog")
    (tmp_path / "c.toml").write_bytes(b'\xef\xbb\xbf[input]\r\nkind = "tensor"\r\n')
    assert load_contract(tmp_path / "c.toml").inputs[0].kind == "tensor"


def test_numbered_labels_lose_their_numbers(tmp_path):
    (tmp_path / "coco.txt").write_text("0  person\n1  bicycle\n3  car\n")
    assert load_labels(tmp_path / "coco.txt") == ("person", "bicycle", "", "car")


names = st.text(min_size=0, max_size=8)
specs = st.one_of(
    st.builds(
        InputSpec, name=names, kind=st.just("image"), size=st.tuples(st.integers(1, 999), st.integers(1, 999)),
        color=st.sampled_from(["rgb", "bgr", "gray"]), resize=st.sampled_from(["stretch", "letterbox", "crop"]),
        std=st.tuples(st.floats(0.5, 300)),
    ),
    st.builds(InputSpec, name=names, shape=st.none() | st.tuples(st.integers(1, 99), st.integers(1, 99))),
)  # fmt: skip


@given(st.builds(Contract, st.lists(specs, min_size=1, max_size=3).map(tuple), st.just(OutputSpec("raw", ("a", "b")))))
def test_survives_a_round_trip_as_plain_values(contract):
    assert Contract.from_dict(contract.to_dict()) == contract


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(["name", "kind", "size", "color", "shape", "mean", "std", "resize"])


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "inputs": st.lists(st.dictionaries(keys, json_values, max_size=4) | json_values, max_size=2) | json_values,
            "output": st.dictionaries(st.sampled_from(["kind", "labels"]), json_values) | json_values,
        },
    )
)
def test_any_plain_values_give_a_contract_or_an_edgeloop_error(data):
    with contextlib.suppress(EdgeloopError):
        Contract.from_dict(data)


def test_anchors_and_gallery_are_read_from_files_and_travel_inline(tmp_path):
    np.savez(tmp_path / "anchors.npz", anchors=np.array([[0.5, 0.5, 0.1, 0.2]], np.float32))
    np.savez(tmp_path / "faces.npz", vectors=np.array([[0.1, 0.2], [0.3, 0.4]], np.float32), labels=["ann", "bob"])
    text = "[input]\nkind='tensor'\n[output]\nkind='detection'\nanchors='anchors.npz'\nlabels=['a']\n"
    anchors = load_contract(write(tmp_path, text)).output.settings
    assert anchors.anchors == ((0.5, 0.5, pytest.approx(0.1), pytest.approx(0.2)),)
    output = load_contract(
        write(tmp_path, "[input]\nkind='tensor'\n[output]\nkind='embedding'\ngallery='faces.npz'\n")
    ).output
    assert output.labels == ("ann", "bob")
    assert np.float32(output.settings.gallery[1][0]) == np.float32(0.3)
    with pytest.raises(ConfigError, match=r"faces\.npz needs an array 'anchors'"):
        load_contract(write(tmp_path, text.replace("anchors.npz", "faces.npz")))
    with pytest.raises(ConfigError, match=r"absent\.npz"):
        load_contract(write(tmp_path, text.replace("anchors.npz", "absent.npz")))


@pytest.mark.parametrize("row", [[0.0, 0.0], [1.0, float("nan")], [float("inf"), 1.0]])
def test_a_gallery_vector_that_nothing_can_be_near_to_is_refused(tmp_path, row):
    np.savez(tmp_path / "g.npz", vectors=np.array([[0.3, 0.4], row], np.float32), labels=["ann", "bob"])
    with pytest.raises(ConfigError, match="the vector of 'bob' is all zeros, or holds NaN"):
        load_gallery(tmp_path / "g.npz")
