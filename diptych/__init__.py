"""Diptych: train, measure and use CLIP models.

    model = diptych.load("folder")
    classifier = diptych.ZeroShotClassifier(model, ["cat", "dog"])
    classifier.predict(["picture.jpg"])

Each name is imported when it is first used, so that `import diptych` and `diptych --help` answer at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diptych import errors, recipes
    from diptych.data.benchmarks import Benchmark, open_benchmark
    from diptych.data.sources import open_source
    from diptych.embed import Encoder, Model, load
    from diptych.errors import DiptychError
    from diptych.evaluate import ZeroShotClassifier
    from diptych.records import Batch, Predictions, Result, Sample
    from diptych.train import TrainConfig, fit

__all__ = [
    "Batch",
    "Benchmark",
    "DiptychError",
    "Encoder",
    "Model",
    "Predictions",
    "Result",
    "Sample",
    "TrainConfig",
    "ZeroShotClassifier",
    "errors",
    "fit",
    "load",
    "open_benchmark",
    "open_source",
    "recipes",
]

_HOMES = {
    "diptych.data.benchmarks": ("Benchmark", "open_benchmark"),
    "diptych.data.sources": ("open_source",),
    "diptych.embed": ("Encoder", "Model", "load"),
    "diptych.errors": ("DiptychError",),
    "diptych.evaluate": ("ZeroShotClassifier",),
    "diptych.records": ("Batch", "Predictions", "Result", "Sample"),
    "diptych.train": ("TrainConfig", "fit"),
}


def __getattr__(name: str) -> Any:
    if name in ("errors", "recipes"):
        return importlib.import_module(f"diptych.{name}")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'diptych' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
