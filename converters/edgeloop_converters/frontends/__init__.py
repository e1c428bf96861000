"""From any trained model to a float .tflite with batch 1 and a signature, which is where everything else starts.

    with start_conversion(Path("resnet.h5")) as conversion:    # native work runs in a child process meanwhile
        ...                                                    # read the data, check it
        model = conversion.result()                            # FloatModel

`to_float_tflite` is the same, waiting. One file per way in; `FRONTENDS` is the table of them. Names load on first use:
a child process is started before the rest is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.lazy import lazy_names

if TYPE_CHECKING:
    from edgeloop_converters.frontends.conversion import Conversion as Conversion
    from edgeloop_converters.frontends.conversion import ConversionOptions as ConversionOptions
    from edgeloop_converters.frontends.conversion import FloatModel as FloatModel
    from edgeloop_converters.frontends.conversion import start_conversion as start_conversion
    from edgeloop_converters.frontends.conversion import to_float_tflite as to_float_tflite
    from edgeloop_converters.frontends.table import FRONTENDS as FRONTENDS
    from edgeloop_converters.frontends.table import Frontend as Frontend
    from edgeloop_converters.frontends.table import detect as detect

_HOMES = {
    "FRONTENDS": ".table",
    "Conversion": ".conversion",
    "ConversionOptions": ".conversion",
    "FloatModel": ".conversion",
    "Frontend": ".table",
    "detect": ".table",
    "start_conversion": ".conversion",
    "to_float_tflite": ".conversion",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
