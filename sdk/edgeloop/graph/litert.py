"""LiteRT's flatbuffer schema as seen from here: the module, names of operators, and their option objects."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from edgeloop.errors import MissingExtraError

_UNKNOWN_BUILTIN = "BUILTIN_"


def schema() -> Any:
    """`ai_edge_litert.schema_py_generated`. Raises MissingExtraError."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise MissingExtraError("reading and writing .tflite models", "convert") from error
    return schema_py_generated


def make_options(name: str, **fields: object) -> Any:
    """An options object: `make_options("Conv2DOptions", strideH=2, strideW=2)`.

    AttributeError for a field it does not have.
    """
    options = getattr(schema(), name + "T")()
    for key, value in fields.items():
        if not hasattr(options, key):
            raise AttributeError(f"{name} has no field {key!r}")
        setattr(options, key, value)
    return options


@lru_cache(maxsize=8)
def enum_names(enum: str) -> Mapping[int, str]:
    """Value -> name of one of the schema's enums."""
    values = vars(getattr(schema(), enum))
    return {value: name for name, value in values.items() if isinstance(value, int) and not name.startswith("_")}


@lru_cache(maxsize=8)
def enum_values(enum: str) -> Mapping[str, int]:
    """Name -> value of one of the schema's enums."""
    return {name: value for value, name in enum_names(enum).items()}


def builtin_name(code: int) -> str:
    """ "CONV_2D" for 3; "BUILTIN_999" for one that the installed schema does not know."""
    return enum_names("BuiltinOperator").get(code, f"{_UNKNOWN_BUILTIN}{code}")


def builtin_code(name: str) -> int:
    """The inverse of `builtin_name`. KeyError for what is no builtin."""
    if name.startswith(_UNKNOWN_BUILTIN) and name[len(_UNKNOWN_BUILTIN) :].isdigit():
        return int(name[len(_UNKNOWN_BUILTIN) :])
    return enum_values("BuiltinOperator")[name]
