"""Looking through a Keras model config for anything that would run code, before Keras sees it.

Two lists, both closed: the modules a config may name (Keras' own building blocks), and the functions a TensorFlow op
layer may call. Everything outside them is refused, so a new way of naming code in a config is refused too.
"""

from __future__ import annotations

import re
from typing import Any

from edgeloop.errors import RefusedError

# Building blocks of Keras 3 and tf-keras: `keras.layers`, `keras.src.engine.functional`, `tf_keras.initializers`, ...
_PARTS = (
    "activations|constraints|dtype_policies|engine|initializers|layers|losses|metrics|mixed_precision|models|ops"
    "|optimizers|quantizers|random|regularizers"
)
_OWN_MODULE = re.compile(rf"(keras|tf_keras)(\.src)?(\.({_PARTS})(\.\w+)*)?")
_CODE_CLASSES = {
    "Lambda": "is a Lambda layer: Python code inside the model file",
    "__lambda__": "is a Python lambda inside the model file",
    "TFSMLayer": "loads another model from a path",
    "TorchModuleWrapper": "runs a pickled PyTorch module",
    "JaxLayer": "runs code that is not Keras' own",
    "FlaxLayer": "runs code that is not Keras' own",
    "__typespec__": "names a type outside Keras",
    "ClassMethod": "calls a method by name",
    "InstanceMethod": "calls a method by name",
    "InstanceProperty": "reads an attribute by name",
}
_OP_LAYERS = frozenset({"TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"})
_OWN_OP = re.compile(
    r"(tf\.)?(compat\.v[12]\.)?("
    r"(math|nn|linalg|signal|bitwise|__operators__)\.\w+(\.\w+)?"
    r"|image\.(resize\w*|crop\w*|pad\w*|extract\w*|central_crop|flip\w*|rgb_to_\w+|grayscale_to_rgb"
    r"|per_image_standardization|adjust_\w+|convert_image_dtype)"
    r"|keras\.(backend|activations)\.\w+"
    r"|abs|add|add_n|argmax|argmin|argsort|boolean_mask|broadcast_to|cast|clip_by_value|concat|constant|convert_to_tensor"
    r"|cos|cumsum|divide|einsum|equal|exp|expand_dims|eye|fill|floor|gather|gather_nd|greater|greater_equal|identity"
    r"|less|less_equal|logical_\w+|matmul|maximum|minimum|multiply|negative|norm|not_equal|one_hot|ones|ones_like|pad"
    r"|pow|range|rank|reduce_\w+|repeat|reshape|reverse|roll|round|scalar_mul|shape|sigmoid|sign|sin|size|slice|sort"
    r"|split|sqrt|square|squeeze|stack|stop_gradient|strided_slice|subtract|tanh|tensordot|tile|transpose|truediv"
    r"|unstack|where|zeros|zeros_like)"
)
_PRIVATE_CLASSES = frozenset({"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__"})
_MAX_DEPTH = 200


def check_config(config: Any, what: str) -> None:
    """Refuse a parsed config that names code. `what` names the model in the error. Raises RefusedError."""
    stack: list[tuple[Any, int]] = [(config, 0)]
    while stack:
        value, depth = stack.pop()
        if depth > _MAX_DEPTH:
            raise RefusedError(f"{what}: its config is nested more than {_MAX_DEPTH} deep")
        if isinstance(value, dict):
            _check_dict(value, what)
            stack.extend((v, depth + 1) for v in value.values())
        elif isinstance(value, (list, tuple)):
            stack.extend((v, depth + 1) for v in value)


def _check_dict(value: dict[Any, Any], what: str) -> None:
    for key, item in value.items():
        # `function_type`, `residual_fn_type`, ...: how tf-keras marks marshalled bytecode.
        if isinstance(key, str) and key.endswith("_type") and item == "lambda":
            raise _refused(what, value, "holds Python bytecode")
    class_name = value.get("class_name")
    if class_name is None:
        return
    if not isinstance(class_name, str):
        raise _refused(what, value, "has a class name that is not text")
    if class_name in _CODE_CLASSES:
        raise _refused(what, value, _CODE_CLASSES[class_name])
    if class_name in _PRIVATE_CLASSES:
        return
    inner = value.get("config")
    if class_name in _OP_LAYERS:
        _check_op_layer(value, inner, what)
    if isinstance(inner, dict) and isinstance(inner.get("vocabulary"), str):
        raise _refused(what, value, f"reads the file '{inner['vocabulary']}'")
    _check_origin(value, class_name, what)


def _check_origin(value: dict[Any, Any], class_name: str, what: str) -> None:
    module, registered = value.get("module"), value.get("registered_name")
    inner = value.get("config")
    is_function = class_name == "function"
    own = module is None or (isinstance(module, str) and _OWN_MODULE.fullmatch(module) is not None)
    if not own and not (is_function and module == "builtins"):
        raise _refused(what, value, f"comes from {module!r}, not from Keras: its code would be run")
    if is_function and not (isinstance(inner, str) and inner.isidentifier()):
        raise _refused(what, value, "names a function that is not Keras' own")
    for name in (class_name, registered):
        if name is None:
            continue
        # Keras writes custom classes as `Package>Name`; its own have a plain name (`Custom>` would be the default).
        if not isinstance(name, str) or not name.isidentifier():
            raise _refused(what, value, f"is of the custom class {name!r}: its code would be run")


def _check_op_layer(value: dict[Any, Any], inner: Any, what: str) -> None:
    function = inner.get("function") if isinstance(inner, dict) else None
    if value["class_name"] == "TensorFlowOpLayer":  # a serialized NodeDef instead of a name
        raise _refused(what, value, "holds a raw TensorFlow op")
    if not isinstance(function, str) or not _OWN_OP.fullmatch(function):
        raise _refused(what, value, f"calls the TensorFlow function {function!r}")


def _refused(what: str, value: dict[Any, Any], why: str) -> RefusedError:
    inner = value.get("config")
    name = value.get("name") or (inner.get("name") if isinstance(inner, dict) else None) or value.get("class_name")
    name = str(name)[:80] if name else "a part without a name"
    return RefusedError(
        f"{what}: layer '{name}' {why}", hint="--trust-code loads it all the same, if you trust whoever made the file"
    )
