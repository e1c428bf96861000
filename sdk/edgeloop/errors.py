"""Every error edgeloop raises on purpose, sorted by who can act on it.

    EdgeloopError
    ├── GoalNotMetError      exit 1  a check or goal was measured and not met
    ├── UsageError           exit 2  the caller asked for something that cannot be done
    │   ├── DataError                the data given do not fit the model or are damaged
    │   ├── ConfigError              a contract, recipe or config file is wrong
    │   └── MissingExtraError        a package is missing; names the command to type
    ├── DeviceError          exit 3  a device, a delegate, a serial line or the network failed
    │   └── DelegateError            a delegate could not be loaded or failed while running
    └── RefusedError         exit 4  refused for safety: signature, corrupt file, code in a model

The text is one line that says what and where; `hint` says what to do. Only a `main()` prints and exits.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_GOAL_NOT_MET = 1
EXIT_USAGE = 2
EXIT_DEVICE = 3
EXIT_REFUSED = 4

_SETUP_OF_EXTRA = {
    "keras": "scripts/setup",
    "parquet": "scripts/setup",
    "torch": "scripts/setup --torch",
    "onnx": "scripts/setup --torch",
}

_MODULES_OF_EXTRA = {
    "agent": ("cv2", "ai_edge_litert"),
    "serial": ("serial",),
    "mqtt": ("paho",),
    "keys": ("cryptography",),
    "ssh": ("asyncssh", "packaging"),
    "release": ("tuf",),
    "find": ("zeroconf",),
    "collector": ("starlette", "uvicorn", "sqlalchemy", "rich"),
    "parquet": ("pyarrow",),
    "convert": ("ai_edge_quantizer", "sklearn", "scipy", "threadpoolctl", "tomli_w"),
    "keras": ("tensorflow", "tf_keras", "keras"),
    "torch": ("torch", "litert_torch"),
    "onnx": ("onnx", "onnx2torch", "torchvision"),
}


def extra_of_module(name: str | None) -> str | None:
    """The smallest extra that brings a module (`sqlalchemy.orm`); None for one that none brings."""
    top = (name or "").partition(".")[0]
    return next((extra for extra, modules in _MODULES_OF_EXTRA.items() if top in modules), None)


def install_hint(extra: str) -> str:
    """What to type to get an extra: into any environment, or into a checkout's own."""
    setup = _SETUP_OF_EXTRA.get(extra, "scripts/setup --light")
    return f"pip install 'edgeloop[{extra}]', or in a checkout: {setup}"


class EdgeloopError(Exception):
    """Base of all deliberate errors: raise one of those below, they have the exit code. `message` is one line; `hint`,
    where there is one, is the next step."""

    exit_code = EXIT_GOAL_NOT_MET

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class GoalNotMetError(EdgeloopError):
    """A goal such as `--max-drop` was measured and missed."""

    exit_code = EXIT_GOAL_NOT_MET


class UsageError(EdgeloopError):
    """The request itself cannot be carried out."""

    exit_code = EXIT_USAGE


class DataError(UsageError):
    """Input data are missing, damaged or do not fit the model."""


class ConfigError(UsageError):
    """A contract, recipe, target or config file is wrong."""


class MissingExtraError(UsageError):
    """A feature needs a package that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the '{extra}' extra", hint=install_hint(extra))
        self.extra = extra


class DeviceError(EdgeloopError):
    """A device, a serial line or the network failed."""

    exit_code = EXIT_DEVICE


class DelegateError(DeviceError):
    """A delegate could not be loaded, or failed while it ran."""


class RefusedError(EdgeloopError):
    """Refused for safety: bad signature, corrupt or hostile file, code inside a model file."""

    exit_code = EXIT_REFUSED
