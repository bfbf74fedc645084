"""Measure an Encoder: metrics, intervals, and evaluators that yield Results."""

from diptych.embed.encoder import Evaluator
from diptych.evaluate.commands import Classified, classify_pictures, evaluate_benchmarks, print_classified
from diptych.evaluate.metrics import accuracy, accuracy_top_k, confusion_matrix, mean_per_class_accuracy
from diptych.evaluate.predictions import read_predictions, write_predictions
from diptych.evaluate.predictive import PredictiveZeroShot
from diptych.evaluate.prompts import read_labels, read_templates
from diptych.evaluate.provenance import run_record
from diptych.evaluate.statistics import clopper_pearson
from diptych.evaluate.tables import zero_shot_table
from diptych.evaluate.zero_shot import ZeroShot, ZeroShotClassifier

__all__ = [
    "Classified",
    "Evaluator",
    "PredictiveZeroShot",
    "ZeroShot",
    "ZeroShotClassifier",
    "accuracy",
    "accuracy_top_k",
    "classify_pictures",
    "clopper_pearson",
    "confusion_matrix",
    "evaluate_benchmarks",
    "mean_per_class_accuracy",
    "print_classified",
    "read_labels",
    "read_predictions",
    "read_templates",
    "run_record",
    "write_predictions",
    "zero_shot_table",
]
