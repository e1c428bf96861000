"""Code in Keras configs is found without running anything."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import RefusedError
from edgeloop_converters.frontends.config_scan import check_config


def layer(class_name: str, module: str | None = "keras.layers", registered: str | None = None, **config: Any) -> Any:
    return {
        "class_name": class_name,
        "module": module,
        "registered_name": registered,
        "config": {"name": "my_layer", **config},
    }


def model(*layers: Any) -> Any:
    return {"class_name": "Functional", "module": "keras", "config": {"name": "m", "layers": list(layers)}}


def test_keras_own_parts_pass() -> None:
    activation = {"class_name": "function", "module": "builtins", "config": "relu", "registered_name": "relu"}
    check_config(
        model(
            layer("Conv2D", activation=activation, kernel_initializer=layer("Zeros", "keras.initializers")),
            layer("Add", "keras.src.ops.numpy", "Add"),
            layer("Functional", "keras.src.models.functional", "Functional"),
            layer("TFOpLambda", None, function="math.multiply"),
            layer("SlicingOpLambda", None, function="__operators__.getitem"),
            {"class_name": "Dense", "config": {"activation": "relu", "units": 3}},
            {"class_name": "__keras_tensor__", "config": {"shape": [None, 3], "keras_history": ["a", 0, 0]}},
        ),
        "m.keras",
    )


@pytest.mark.parametrize(
    "part",
    [
        layer("Lambda"),
        layer("Lambda", None),
        layer("TimeDistributed", layer=layer("Lambda")),
        layer("Dense", activation={"class_name": "__lambda__", "config": {"value": "4wEA"}}),
        layer("Dense", "os"),
        layer("system", "os", config="x"),
        layer("Dense", "keras_nlp.layers"),
        layer("Dense", "keras.layers.evil-module"),
        layer("Dense", "kerasy.layers"),
        layer("Dense", "keras.src.utils.file_utils"),
        layer("get_file", "keras.utils"),
        layer("MyLayer", None, "my_package>MyLayer"),
        layer("my_package>MyLayer", None),
        layer("TFSMLayer", filepath="/tmp/x"),
        layer("TorchModuleWrapper"),
        layer("TFOpLambda", None, function="io.write_file"),
        layer("TFOpLambda", None, function="py_function"),
        layer("TFOpLambda", None, function="math.multiply; import os"),
        layer("TensorFlowOpLayer", None, node_def="x"),
        layer("StringLookup", vocabulary="/etc/passwd"),
        layer("ResidualWrapper", residual_fn="4wEA", residual_fn_type="lambda"),
        {"class_name": "function", "module": "os", "config": "system", "registered_name": "system"},
        {"class_name": "function", "module": "builtins", "config": "os.system", "registered_name": "x"},
        {"class_name": {"x": 1}, "config": {}},
        {"class_name": "__typespec__", "config": [], "spec_name": "TensorSpec", "module": "os"},
    ],
)
def test_whatever_would_run_code_is_refused_wherever_it_hides(part: Any) -> None:
    for config in (part, model(part), {"layers": [[part]], "x": {"compile_config": 1}}):
        with pytest.raises(RefusedError) as caught:
            check_config(config, "m.keras")
        assert "m.keras" in caught.value.message
        assert "\n" not in str(caught.value)


def test_the_layer_is_named() -> None:
    with pytest.raises(RefusedError, match="layer 'my_layer' is a Lambda layer") as caught:
        check_config(model(layer("Lambda")), "m.keras")
    assert "--trust-code" in str(caught.value.hint)


def test_endless_nesting_is_refused() -> None:
    config: Any = {}
    for _ in range(5000):
        config = {"config": config}
    with pytest.raises(RefusedError, match="nested"):
        check_config(config, "m.keras")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["class_name", "module", "registered_name", "config", "function", "name", "vocabulary"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(_json)
def test_any_json_is_either_passed_or_refused(config: Any) -> None:
    try:
        check_config(config, "m.keras")
    except RefusedError as error:
        assert "\n" not in error.message.replace(str(config), "")


@given(_json)
def test_a_lambda_is_found_in_any_surroundings(config: Any) -> None:
    with pytest.raises(RefusedError):
        check_config({"a": config, "b": [config, layer("Lambda")]}, "m.keras")
