"""Diptych: train, measure and use CLIP models.

    model = diptych.load("folder")
    classifier = diptych.ZeroShotClassifier(model, ["cat", "dog"])
    classifier.predict(["photo.jpg"])
    results = diptych.evaluate(model, ["cifar10/"], tasks=["zero_shot", "linear_probe"])

Each name is imported when it is first used, so that `import diptych` and `diptych --help` answer at once.
"""

from typing import TYPE_CHECKING

from diptych.lazy import lazy_names

if TYPE_CHECKING:
    from diptych import errors, recipes
    from diptych.convert import convert
    from diptych.data.open_source import open_source
    from diptych.embed import Encoder, ImageEmbedder, Model, embed_images, embed_texts, load
    from diptych.errors import DiptychError
    from diptych.evalsets.benchmark import Benchmark, open_benchmark
    from diptych.evaluate import Evaluator, LinearProbe, PredictiveZeroShot, ZeroShot, ZeroShotClassifier, evaluate
    from diptych.records import Batch, Predictions, Result, Sample
    from diptych.train import TrainConfig, fit

__all__ = [
    "Batch",
    "Benchmark",
    "DiptychError",
    "Encoder",
    "Evaluator",
    "ImageEmbedder",
    "LinearProbe",
    "Model",
    "Predictions",
    "PredictiveZeroShot",
    "Result",
    "Sample",
    "TrainConfig",
    "ZeroShot",
    "ZeroShotClassifier",
    "convert",
    "embed_images",
    "embed_texts",
    "errors",
    "evaluate",
    "fit",
    "load",
    "open_benchmark",
    "open_source",
    "recipes",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "diptych.convert": ("convert",),
        "diptych.evalsets.benchmark": ("Benchmark", "open_benchmark"),
        "diptych.data.open_source": ("open_source",),
        "diptych.embed": ("Encoder", "ImageEmbedder", "Model", "embed_images", "embed_texts", "load"),
        "diptych.errors": ("DiptychError", "errors"),
        "diptych.evaluate": (
            "Evaluator",
            "LinearProbe",
            "PredictiveZeroShot",
            "ZeroShot",
            "ZeroShotClassifier",
            "evaluate",
        ),
        "diptych.recipes": ("recipes",),
        "diptych.records": ("Batch", "Predictions", "Result", "Sample"),
        "diptych.train": ("TrainConfig", "fit"),
    },
)
