"""Measure an Encoder: metrics, intervals, and evaluators that yield Results.

The package is also a function, `diptych.evaluate(model, sets, tasks=["zero_shot"], ...)`, which returns Results;
`help(diptych.evaluate.evaluate)` describes it.
"""

import sys
from typing import TYPE_CHECKING

from diptych.lazy import CallablePackage, lazy_names

if TYPE_CHECKING:
    from diptych.embed.encoder import Evaluator
    from diptych.evaluate.classify.classified import Classified, print_classified
    from diptych.evaluate.classify.classify_images import classify_pictures
    from diptych.evaluate.encoded_set import encode_set
    from diptych.evaluate.evaluate_sets import evaluate_benchmarks
    from diptych.evaluate.evaluation import evaluate
    from diptych.evaluate.metrics.classification import (
        accuracy,
        accuracy_top_k,
        confusion_matrix,
        mean_of_top_1_and_5,
        mean_per_class_accuracy,
    )
    from diptych.evaluate.metrics.comparison import Paired, as_good_as_best, bootstrap, paired_test
    from diptych.evaluate.metrics.geography import great_circle_km, share_within
    from diptych.evaluate.metrics.ranking import (
        average_precision_11_point,
        mean_average_precision,
        recall_at_k,
        roc_auc,
    )
    from diptych.evaluate.metrics.score import Score, score
    from diptych.evaluate.metrics.statistics import clopper_pearson
    from diptych.evaluate.predictions import read_predictions, write_predictions
    from diptych.evaluate.probe.linear_probe import LinearProbe
    from diptych.evaluate.provenance import run_record
    from diptych.evaluate.results_table import zero_shot_table
    from diptych.evaluate.scored_results import make_result
    from diptych.evaluate.tasks.registry import register
    from diptych.evaluate.tasks.task import BoundTask, Measurement, Setting, Task
    from diptych.evaluate.zero_shot.class_prompts import read_labels, read_templates
    from diptych.evaluate.zero_shot.classifier import ZeroShotClassifier
    from diptych.evaluate.zero_shot.evaluator import ZeroShot
    from diptych.evaluate.zero_shot.predictive import PredictiveZeroShot

__all__ = [
    "BoundTask",
    "Classified",
    "Evaluator",
    "LinearProbe",
    "Measurement",
    "Paired",
    "PredictiveZeroShot",
    "Score",
    "Setting",
    "Task",
    "ZeroShot",
    "ZeroShotClassifier",
    "accuracy",
    "accuracy_top_k",
    "as_good_as_best",
    "average_precision_11_point",
    "bootstrap",
    "classify_pictures",
    "clopper_pearson",
    "confusion_matrix",
    "encode_set",
    "evaluate",
    "evaluate_benchmarks",
    "great_circle_km",
    "make_result",
    "mean_average_precision",
    "mean_of_top_1_and_5",
    "mean_per_class_accuracy",
    "paired_test",
    "print_classified",
    "read_labels",
    "read_predictions",
    "read_templates",
    "recall_at_k",
    "register",
    "roc_auc",
    "run_record",
    "score",
    "share_within",
    "write_predictions",
    "zero_shot_table",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "diptych.embed.encoder": ("Evaluator",),
        "diptych.evaluate.classify.classify_images": ("classify_pictures",),
        "diptych.evaluate.classify.classified": ("Classified", "print_classified"),
        "diptych.evaluate.evaluate_sets": ("evaluate_benchmarks",),
        "diptych.evaluate.evaluation": ("evaluate",),
        "diptych.evaluate.metrics.classification": (
            "accuracy",
            "accuracy_top_k",
            "confusion_matrix",
            "mean_of_top_1_and_5",
            "mean_per_class_accuracy",
        ),
        "diptych.evaluate.metrics.comparison": (
            "Paired",
            "as_good_as_best",
            "bootstrap",
            "paired_test",
        ),
        "diptych.evaluate.metrics.geography": (
            "great_circle_km",
            "share_within",
        ),
        "diptych.evaluate.metrics.ranking": (
            "average_precision_11_point",
            "mean_average_precision",
            "recall_at_k",
            "roc_auc",
        ),
        "diptych.evaluate.metrics.statistics": ("clopper_pearson",),
        "diptych.evaluate.predictions": (
            "read_predictions",
            "write_predictions",
        ),
        "diptych.evaluate.probe.linear_probe": ("LinearProbe",),
        "diptych.evaluate.provenance": ("run_record",),
        "diptych.evaluate.results_table": ("zero_shot_table",),
        "diptych.evaluate.encoded_set": ("encode_set",),
        "diptych.evaluate.metrics.score": (
            "Score",
            "score",
        ),
        "diptych.evaluate.scored_results": ("make_result",),
        "diptych.evaluate.tasks.registry": ("register",),
        "diptych.evaluate.tasks.task": (
            "BoundTask",
            "Measurement",
            "Setting",
            "Task",
        ),
        "diptych.evaluate.zero_shot.classifier": ("ZeroShotClassifier",),
        "diptych.evaluate.zero_shot.evaluator": ("ZeroShot",),
        "diptych.evaluate.zero_shot.predictive": ("PredictiveZeroShot",),
        "diptych.evaluate.zero_shot.class_prompts": (
            "read_labels",
            "read_templates",
        ),
    },
)

sys.modules[__name__].__class__ = CallablePackage
