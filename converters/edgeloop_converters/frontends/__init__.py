"""From any trained model to a float .tflite with batch 1 and a signature, which is where everything else starts.

    with start_conversion(Path("resnet.h5")) as conversion:    # native work runs in a child process meanwhile
        ...                                                    # read the data, check it
        model = conversion.result()                            # FloatModel

`to_float_tflite` is the same, waiting. One file per way in; `FRONTENDS` is the table of them.
"""

from __future__ import annotations

from edgeloop_converters.frontends.conversion import (
    Conversion,
    ConversionOptions,
    FloatModel,
    start_conversion,
    to_float_tflite,
)
from edgeloop_converters.frontends.table import FRONTENDS, Frontend, detect

__all__ = [
    "FRONTENDS",
    "Conversion",
    "ConversionOptions",
    "FloatModel",
    "Frontend",
    "detect",
    "start_conversion",
    "to_float_tflite",
]
