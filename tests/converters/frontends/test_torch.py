"""PyTorch as the way in: factories, exported programs, checkpoints; code runs only where it was named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.errors import RefusedError, UsageError
from edgeloop.graph import Graph
from edgeloop.runtime import open_session
from edgeloop_converters.frontends import ConversionOptions, detect, to_float_tflite
from edgeloop_converters.frontends.torch_models import channels_last
from support.images import class_folders
from support.torch_zoo import line_of, needs_torch, write_models

pytestmark = needs_torch


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with my_models.py, which is the current one."""
    write_models(tmp_path)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("my_models", None)


def load(name: str, **more: Any) -> Any:
    """A factory's model, in this process."""
    from edgeloop_converters.frontends.torch_factory import load_factory

    return load_factory({"source": f"my_models:{name}", "cwd": str(Path.cwd()), **more})


def module_of(name: str) -> Any:
    return load(name).module


def ops(tflite: bytes) -> list[str]:
    return [op.name for op in Graph.read(tflite).main.ops]


def test_a_picture_network_is_channels_last_and_computes_the_same(here: Path) -> None:
    import torch

    model = to_float_tflite(Path("my_models:small"))
    assert model.frontend == "torch_function"
    assert set(model.versions) == {"torch", "litert-torch"}
    assert "[1, 32, 32, 3] here" in model.notes[0]
    assert "of PyTorch's" in model.notes[1]
    assert "TRANSPOSE" not in ops(model.tflite)
    signature = Graph.read(model.tflite).signatures[0]
    assert (list(signature.inputs), list(signature.outputs)) == (["image"], ["output"])
    x = torch.rand(1, 3, 32, 32)
    with open_session(model.tflite) as session:
        ours = session.run(x.permute(0, 2, 3, 1).contiguous().numpy())[0]
    with torch.no_grad():
        theirs = module_of("small")(x).numpy()
    assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max() + 1e-5


def test_an_output_without_dimensions_is_compared_too(here: Path) -> None:
    lines = [
        "import torch",
        "class Sum(torch.nn.Module):",
        "    def forward(self, values):",
        "        return values.sum()",
        "def total():",
        "    return Sum().eval(), torch.randn(1, 6)",
    ]
    (here / "scalars.py").write_text("\n".join(lines))
    model = to_float_tflite(Path("scalars:total"))
    assert "of PyTorch's" in model.notes[-1] or "PyTorch's outputs" in model.notes[-1]
    assert Graph.read(model.tflite).inputs[0].name == "values", "errors name inputs by their tensors"


def test_several_inputs_and_outputs_keep_their_names(here: Path) -> None:
    model = to_float_tflite(Path("my_models:two"))
    graph = Graph.read(model.tflite)
    signature = graph.signatures[0]
    assert sorted(signature.inputs) == ["image", "tokens"]
    assert sorted(signature.outputs) == ["map", "score"]
    by_name = {name: graph.main.tensors[i] for name, i in {**signature.inputs, **signature.outputs}.items()}
    assert by_name["image"].shape == (1, 16, 16, 3)
    assert (by_name["tokens"].shape, by_name["tokens"].dtype) == ((1, 5), "int32")
    assert by_name["map"].shape == (1, 7, 7, 8)


def test_the_command_line_prints_one_object_and_ends_in_int8(here: Path) -> None:
    class_folders(here / "data", dict.fromkeys("abcdefghij", 4))
    command = [sys.executable, "-m", "edgeloop.cli", "convert", "my_models:small", "--data", "data", "--mean", "0",
               "--std", "255", "--effort", "fast", "--calibration-samples", "16", "--ignore-labels", "--no-sign",
               "--json"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["name"] == "small"
    assert result["variants"][0]["scheme"] == "int8"
    assert result["variants"][0]["metrics"]["agreement"] >= 0.7
    assert "importing prints" not in done.stdout


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raises", "my_models.py:{line}: ValueError: depth 3 is not possible"),
        ("number", "gave int, not a model"),
        ("absent", "my_models has no function 'absent'"),
        ("bare", "which input shape does the model take"),
    ],
)
def test_a_factory_that_fails_is_one_line(here: Path, name: str, words: str) -> None:
    line = line_of('raise ValueError("depth 3 is not possible\\nmore of it")')
    with pytest.raises(UsageError) as caught:
        load(name)
    assert words.format(line=line) in caught.value.message
    assert "\n" not in caught.value.message


def test_modules_that_cannot_be_imported_are_one_line(here: Path) -> None:
    from edgeloop_converters.frontends.torch_factory import load_factory

    (here / "broken.py").write_text("def make(:\n    pass\n")
    (here / "lacking.py").write_text("import a_package_that_is_not_there\n")
    for spec, words in (
        ("broken:make", "broken.py:1: "),
        ("lacking:make", "lacking.py:1: the package 'a_package_that_is_not_there' is missing"),
        ("absent_module:make", "there is no module 'absent_module'"),
    ):
        with pytest.raises(UsageError) as caught:
            load_factory({"source": spec, "cwd": str(here)})
        assert words in caught.value.message
    with pytest.raises(UsageError, match="a module is named, not its file") as caught:
        detect(Path("my_models.py:small"))
    assert caught.value.hint == "edgeloop convert my_models:small"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("branches", "my_models.py:{line}: the model's path depends on the values"),
        ("svd", "no counterpart for aten._linalg_svd"),
        ("wrong_shape", r"the model fails on inputs \[1, 7\]: RuntimeError: mat1 and mat2"),
    ],
)
def test_what_cannot_be_converted_says_why(here: Path, name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words.format(line=line_of("if x.sum() > 0:"))):
        to_float_tflite(Path(f"my_models:{name}"))


def test_the_shape_comes_from_the_flag_or_from_the_data(here: Path) -> None:
    assert load("bare", shape=[1, 12, 10]).example[0].shape == (1, 1, 12, 10)
    assert load("bare", sample_shape=[12, 10, 1]).example[0].shape == (1, 1, 12, 10)
    assert load("bare", sample_shape=[1, 12, 10]).example[0].shape == (1, 1, 12, 10)
    assert load("small").example[0].shape == (1, 3, 32, 32)
    assert load("small", shape=[3, 64, 48]).example[0].shape == (1, 3, 64, 48)


def test_arrays_that_are_channels_first_stay_so() -> None:
    assert channels_last([(1, 3, 32, 40)], None) == {0}
    assert channels_last([(1, 3, 32, 40)], (32, 40, 3)) == {0}
    assert channels_last([(1, 3, 32, 40)], (3, 32, 40)) == frozenset()
    assert channels_last([(1, 7), (1, 3, 8, 8)], None) == {1}


def test_an_exported_program_with_free_dimensions(here: Path) -> None:
    import torch

    model = module_of("small")
    auto = torch.export.Dim.AUTO
    free = ({0: auto, 2: auto, 3: auto},)
    torch.export.save(torch.export.export(model, (torch.rand(4, 3, 32, 32),), dynamic_shapes=free), "small.pt2")
    assert detect(Path("small.pt2")) == "torch_export"
    converted = to_float_tflite(Path("small.pt2"), ConversionOptions(sample_shape=(32, 48, 3)))
    assert Graph.read(converted.tflite).inputs[0].shape == (1, 32, 48, 3)
    assert "TRANSPOSE" not in ops(converted.tflite)


def test_an_exported_program_with_another_batch_is_sent_back(here: Path) -> None:
    import torch

    torch.export.save(torch.export.export(torch.nn.Linear(4, 2), (torch.rand(8, 4),)), "eight.pt2")
    with pytest.raises(UsageError, match="exported with a batch of 8"):
        to_float_tflite(Path("eight.pt2"))


class Touch:
    """Pickles to a call that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_a_checkpoint_is_answered_with_the_factory_to_write(here: Path) -> None:
    import torch

    from edgeloop_converters.frontends.torch_checkpoints import refuse_checkpoint

    state = module_of("small").state_dict()
    torch.save(state, "a-net.pth")
    torch.save({"epoch": 3, "state_dict": state}, "nested.pt")
    torch.save(state, "old.pth", _use_new_zipfile_serialization=False)
    for name, key in (("a-net.pth", ""), ("nested.pt", '["state_dict"]'), ("old.pth", "")):
        assert detect(Path(name)) == "torch_checkpoint"
        error = refuse_checkpoint(Path(name))
        assert isinstance(error, UsageError)
        assert "stem.0.weight [8, 3, 3, 3]" in error.message
        assert "head.bias [10]" in error.message
        assert "\n" not in error.message
        assert f"load_state_dict(checkpoint{key})" in str(error.hint)
    assert "def a_net():" in str(refuse_checkpoint(Path("a-net.pth")).hint)


def test_a_pickle_that_would_run_code_does_not(here: Path) -> None:
    import torch

    touched = here / "touched"
    torch.save({"weight": torch.rand(2, 2), "extra": Touch(touched)}, "evil.pth")
    torch.save(Touch(touched), "evil-old.pth", _use_new_zipfile_serialization=False)
    for name in ("evil.pth", "evil-old.pth"):
        with pytest.raises(RefusedError, match="would run code") as caught:
            to_float_tflite(Path(name))
        assert "system" in caught.value.message
    assert not touched.exists()


def test_the_command_refuses_it_with_exit_code_4(here: Path) -> None:
    import torch

    torch.save(Touch(here / "touched"), "evil.pth")
    np.savez(here / "d.npz", x=np.zeros((4, 8, 8, 3), np.float32))
    command = [sys.executable, "-m", "edgeloop.cli", "convert", "evil.pth", "--data", "d.npz", "--no-sign"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert "would run code" in done.stderr
    assert not (here / "touched").exists()


def test_a_module_pickled_whole_and_torchscript_are_refused(here: Path) -> None:
    import torch

    from edgeloop_converters.frontends.torch_checkpoints import refuse_checkpoint

    model = module_of("small")
    torch.save(model, "whole.pth")
    torch.jit.trace(model, torch.rand(1, 3, 32, 32)).save("script.pt")
    assert "my_models.ResNet" in refuse_checkpoint(Path("whole.pth")).message
    assert "TorchScript" in refuse_checkpoint(Path("script.pt")).message


def evil_program(folder: Path, change: Any) -> Path:
    """A .pt2 whose archive `change(members)` has edited; members: name inside the archive -> bytes."""
    import torch

    torch.export.save(torch.export.export(torch.nn.Linear(4, 2), (torch.rand(1, 4),)), folder / "fine.pt2")
    with zipfile.ZipFile(folder / "fine.pt2") as archive:
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(members)
    path = folder / "evil.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"evil/{name}", content)
    return path


def edited(members: dict[str, bytes], edit: Any) -> None:
    program = json.loads(members["models/model.json"])
    edit(program["graph_module"]["graph"]["nodes"][0], program)
    members["models/model.json"] = json.dumps(program).encode()


def a_function_by_name(members: dict[str, bytes]) -> None:
    edited(members, lambda node, _: node.update(target="torch.os.system"))


def a_text_for_an_op(members: dict[str, bytes]) -> None:
    argument = {"name": "filename", "arg": {"as_string": "/etc/passwd"}, "kind": 1}
    edited(members, lambda node, _: node["inputs"].append(argument))


def an_expression(members: dict[str, bytes]) -> None:
    size = {"as_expr": {"expr_str": "__import__('os').system('touch touched')", "hint": None}}
    edited(members, lambda _, program: program["graph_module"]["graph"]["tensor_values"]["linear"].update(sizes=[size]))


def a_type_to_import(members: dict[str, bytes]) -> None:
    tree = '[1, {"type": "os.system", "context": "null", "children_spec": []}]'

    def edit(_: Any, program: Any) -> None:
        program["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = tree

    edited(members, edit)


def a_pickled_constant(members: dict[str, bytes]) -> None:
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    members["data/constants/model_constants_config.json"] = json.dumps({"config": {"c": entry}}).encode()
    import pickle

    members["data/constants/opaque_obj_0"] = pickle.dumps(Touch(Path("touched")))


def a_library(members: dict[str, bytes]) -> None:
    members["data/aotinductor/model/model.so"] = b"\x7fELF"


@pytest.mark.parametrize(
    "change", [a_function_by_name, a_text_for_an_op, an_expression, a_type_to_import, a_pickled_constant, a_library]
)
def test_a_program_that_would_run_code_is_refused(here: Path, change: Any) -> None:
    from edgeloop_converters.frontends.torch_programs import rewrite

    with pytest.raises(RefusedError):
        rewrite(evil_program(here, change), here / "clean.pt2")
    assert not (here / "touched").exists()


def test_guards_and_sample_inputs_of_a_program_are_left_behind(here: Path) -> None:
    import pickle

    import torch

    from edgeloop_converters.frontends.torch_programs import load_program

    def change(members: dict[str, bytes]) -> None:
        guard = "__import__('os').system('touch touched') == 0"
        edited(members, lambda _, program: program.update(guards_code=[guard]))
        members["data/sample_inputs/model.pt"] = pickle.dumps(Touch(here / "touched"))

    path = evil_program(here, change)
    model = load_program({"source": str(path), "folder": str(here)})
    with torch.no_grad():
        assert model.module(*model.example).shape == (1, 2)
    assert not (here / "touched").exists()


def test_a_truncated_program_is_refused(here: Path) -> None:
    from edgeloop_converters.frontends.torch_programs import rewrite

    whole = evil_program(here, lambda members: None).read_bytes()
    (here / "cut.pt2").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RefusedError):
        rewrite(here / "cut.pt2", here / "clean.pt2")
    with pytest.raises(RefusedError, match="damaged, or cut short"):
        detect(here / "cut.pt2")


def test_a_recipe_names_no_model_code(here: Path) -> None:
    from edgeloop.errors import ConfigError
    from edgeloop_converters.recipe import Recipe
    from edgeloop_converters.recipe_reading import load_recipe
    from edgeloop_converters.shapes import shapes_of

    recipe = Recipe("my_models:small", data="d.npz", shapes=shapes_of([3, 32, 32]))
    assert recipe.bundle_name == "small"
    (here / "r.toml").write_text(recipe.to_toml())
    with pytest.raises(ConfigError, match="names code, which is never taken from a file"):
        load_recipe(here / "r.toml")
    again = load_recipe(here / "r.toml", {"source": "my_models:small", "data": None})
    assert again == recipe
