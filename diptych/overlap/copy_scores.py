"""Precision and recall of a copy detector's answers, with intervals over photographs."""

import dataclasses
import functools
from typing import Any

import numpy as np

from diptych.evaluate.metrics.comparison import bootstrap
from diptych.overlap.copy_benchmark import HARD_RULE, Answers, CopyBenchmark
from diptych.overlap.unseen_copies import SEVERITIES, USUAL

PRECISIONS = (0.9, 0.99, 0.999)
_LEVEL = 0.995
_RESAMPLES = 1000


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """Precision and recall at each distinct score, the highest first.

    Attributes:
        thresholds, precision, recall: float64 (T,).
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray

    def recall_at(self, precision: float) -> tuple[float, float]:
        """The largest recall with at least this precision, and its threshold; (0, infinity) if there is none."""
        good = np.flatnonzero(self.precision >= precision)
        if not len(good):
            return 0.0, float("inf")
        best = good[np.argmax(self.recall[good])]
        return float(self.recall[best]), float(self.thresholds[best])


def precision_recall(
    score: np.ndarray, right: np.ndarray, present: np.ndarray, weight: np.ndarray | None = None
) -> Curve:
    """The precision-recall curve of answers. Equal scores are accepted or refused together.

    Args:
        score: float (Q,). right, present: bool (Q,); right answers are among the present ones.
        weight: how often each query counts, (Q,); None for once.
    """
    weight = np.ones(len(score)) if weight is None else weight.astype(np.float64)
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(score) else np.array([], np.int64)
    accepted = np.cumsum(weight[order])[last]
    correct = np.cumsum((weight * right)[order])[last]
    total = float((weight * present).sum())
    precision = np.divide(correct, accepted, out=np.zeros_like(correct), where=accepted > 0)
    return Curve(ordered[last], precision, correct / total if total else np.zeros_like(correct))


def summarise(answers: Answers, precisions: tuple[float, ...] = PRECISIONS) -> dict[str, Any]:
    """Recall at several precisions, with bootstrap intervals over photographs, and the thresholds.

    A photograph's copies are drawn together, since they succeed and fail together.
    """
    answers = answers.where(np.argsort(-answers.score, kind="stable"))  # sorting sorted scores again is fast
    curve = precision_recall(answers.score, answers.right, answers.present)
    photos, place = np.unique(answers.photo, return_inverse=True)

    def recall(precision: float, drawn: np.ndarray) -> float:
        weight = np.bincount(drawn, minlength=len(photos))[place]
        return precision_recall(answers.score, answers.right, answers.present, weight).recall_at(precision)[0]

    summary: dict[str, Any] = {
        "num_queries": len(answers.score),
        "num_present": int(answers.present.sum()),
        "nearest_right": float(answers.right.sum() / max(1, answers.present.sum())),
    }
    for precision in precisions:
        value, threshold = curve.recall_at(precision)
        low, high = bootstrap(functools.partial(recall, precision), len(photos), level=_LEVEL, resamples=_RESAMPLES)
        summary[f"recall_at_{100 * precision:g}"] = {
            "value": value,
            "interval": [low, high],
            "threshold": None if threshold == float("inf") else threshold,
        }
    return summary


def report_answers(benchmark: CopyBenchmark, answers: Answers) -> dict[str, Any]:
    """Everything that the benchmark says of a detector, JSON-serialisable.

    `pooled` has all severities, `usual` the usual strength. `by_rule` gives each rule and severity at the threshold
    that `usual` has at 99 % precision: one user sets one threshold. `false_alarms` are the shares of hard queries,
    which are no copies, at or above that threshold.
    """
    usual = summarise(answers.of(severity=USUAL))
    threshold = usual["recall_at_99"]["threshold"]
    limit = float("inf") if threshold is None else threshold
    rules = [str(rule) for rule in dict.fromkeys(answers.rule) if rule != HARD_RULE]
    hard = answers.where(answers.rule == HARD_RULE)
    kinds = np.array([benchmark.hard[row].kind for row in hard.photo], dtype=object)
    return {
        "pooled": summarise(answers.of()),
        "usual": usual,
        "by_rule": {
            rule: {str(s): _at(answers.of([rule], s), limit) for s in SEVERITIES if len(answers.of([rule], s).score)}
            for rule in rules
        },
        "false_alarms": {
            str(kind): float((hard.score[kinds == kind] >= limit).mean()) for kind in dict.fromkeys(kinds)
        },
    }


def _at(answers: Answers, threshold: float) -> dict[str, float | None]:
    """Recall and precision at a given threshold, and the rule's own recall at each precision."""
    accepted = answers.score >= threshold
    right = int((accepted & answers.right).sum())
    curve = precision_recall(answers.score, answers.right, answers.present)
    own = {f"recall_at_{100 * precision:g}": curve.recall_at(precision)[0] for precision in PRECISIONS}
    return {
        "recall": right / max(1, int(answers.present.sum())),
        "precision": right / int(accepted.sum()) if accepted.any() else None,
        **own,
    }
