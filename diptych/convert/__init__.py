"""Write a model for another library or runtime, load it there again, and check that it computes the same.

The package is also a function, `diptych.convert(model, "onnx", "folder")`, which `help(diptych.convert.convert)`
describes.
"""

import sys
from typing import TYPE_CHECKING

from diptych.lazy import CallablePackage, lazy_names

if TYPE_CHECKING:
    from diptych.convert.accuracy_change import AccuracyChange
    from diptych.convert.convert_model import Conversion, convert
    from diptych.convert.targets import TARGETS, Target

__all__ = ["TARGETS", "AccuracyChange", "Conversion", "Target", "convert"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "diptych.convert.accuracy_change": ("AccuracyChange",),
        "diptych.convert.convert_model": ("Conversion", "convert"),
        "diptych.convert.targets": ("TARGETS", "Target"),
    },
)

sys.modules[__name__].__class__ = CallablePackage
