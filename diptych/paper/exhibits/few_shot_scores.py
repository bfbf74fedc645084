"""Few-shot Results as curves over labeled examples per class, with zero-shot and full supervision."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from diptych.evaluate.probe.data_efficiency import examples_to_match
from diptych.evaluate.tasks.testbed import SHIFT_NAMES, average_on_imagenet, average_under_shift
from diptych.paper.numbers.chance import is_at_chance, num_classes_of
from diptych.records import Result, is_number, kind_of

PROBE = "probe"
FULL = "full"

_METRICS = {"accuracy": "", "accuracy_pm_0": "-pm0", "accuracy_pm_10": "-pm10"}


@dataclasses.dataclass(frozen=True)
class Curve:
    """The few-shot curve of one model on one set.

    Attributes:
        shots: Results by classifier and examples per class.
        zero_shot: Result of the ensemble of templates; None if not measured.
        full: Result of the linear probe on the whole training set; None if not measured.
        full_examples: examples per class of the whole training set; None if unknown.
        num_classes: number of classes; None if unknown.
    """

    shots: Mapping[str, Mapping[int, Result]]
    zero_shot: Result | None = None
    full: Result | None = None
    full_examples: float | None = None
    num_classes: int | None = None

    def points(self, classifier: str = PROBE) -> tuple[list[float], list[float]]:
        """Increasing examples per class, and scores (fractions); the probe's curve ends with full supervision."""
        scores: dict[float, float] = {shots: result.value for shots, result in self.shots.get(classifier, {}).items()}
        if classifier == PROBE and self.full is not None and self.full_examples is not None:
            scores = {shots: value for shots, value in scores.items() if shots < self.full_examples}
            scores[self.full_examples] = self.full.value
        shots = sorted(scores)
        return shots, [scores[count] for count in shots]

    def needed(self) -> float | None:
        """The examples per class with which the probe matches zero-shot; None if it never does.

        Call it only if `can_be_matched`.
        """
        assert self.zero_shot is not None
        return examples_to_match(*self.points(), self.zero_shot.value)

    @property
    def is_at_chance(self) -> bool:
        """Whether zero-shot is not better than guessing, within its interval. Then it has no equivalent examples."""
        if self.zero_shot is None:
            return False
        return is_at_chance(self.zero_shot, self.num_classes)

    @property
    def can_be_matched(self) -> bool:
        """Whether zero-shot was measured, and enough of the curve.

        If a few-shot score reaches zero-shot, full supervision is not needed.
        """
        if self.zero_shot is None or PROBE not in self.shots:
            return False
        return self.points()[0][-1] == self.full_examples or max(self.points()[1]) >= self.zero_shot.value


def curves(results: Iterable[Result]) -> dict[str, dict[str, Curve]]:
    """Curves by model and set, for sets with few-shot Results. Later Results replace earlier ones of the same number.

    Full supervision is the few-shot probe with all examples ("shots" is "full"), otherwise the linear probe, in the
    metric of the few-shot Results. An encoder without features only has a "projected" probe. ImageNet's shifts have no
    training set and are omitted.
    """
    shots: dict[tuple[str, str], dict[str, dict[int, Result]]] = {}
    others: dict[tuple[str, str, str, str, str], Result] = {}
    for result in results:
        if result.split != "test":
            continue
        place = (result.model, result.dataset)
        match _examples(result):
            case (str(classifier), int(number)):
                if "subset" not in result.condition and result.dataset not in SHIFT_NAMES:
                    shots.setdefault(place, {}).setdefault(classifier, {})[number] = result
            case (classifier, _) if classifier == PROBE and "subset" not in result.condition:
                others[*place, result.metric, "few_shot", FULL] = result
            case None if not result.condition:
                others[*place, result.metric, kind_of(result), result.protocol] = result
    curves_by_model: dict[str, dict[str, Curve]] = {}
    for (model, dataset), own in shots.items():
        example = next(iter(next(iter(own.values())).values()))
        key = (model, dataset, example.metric)
        candidates = (("few_shot", FULL), ("linear_probe", "features"), ("linear_probe", "projected"))
        full = next((others[(*key, *candidate)] for candidate in candidates if (*key, *candidate) in others), None)
        zero_shot = others.get((*key, "zero_shot", "ensemble"))
        curve = Curve(own, zero_shot, full, _full_examples(example, full), num_classes_of(example))
        curves_by_model.setdefault(model, {})[dataset] = curve
    return curves_by_model


def _examples(result: Result) -> tuple[str, int | str] | None:
    """Classifier and examples per class (a number or FULL) of a few-shot Result; None for other Results."""
    classifier, shots = result.condition.get("classifier"), result.condition.get("shots")
    if (
        kind_of(result) != "few_shot"
        or not isinstance(classifier, str)
        or not (shots == FULL or isinstance(shots, int))
    ):
        return None
    return classifier, shots


def _full_examples(few: Result, full: Result | None) -> float | None:
    """Examples per class of full supervision; None if unknown.

    All training and validation images of the linear probe, divided by the number of classes. If the probe does not
    give their number, the images of the training split.
    """
    per_class, num_train = few.setting("examples_per_class", float), few.setting("train_examples", int)
    num_learned = None if full is None else full.setting("train", int)
    if not per_class or not num_train or not num_learned:
        return None if per_class is None else float(per_class)
    return float(per_class) * num_learned / num_train


@dataclasses.dataclass(frozen=True)
class Mean:
    """A mean over sets in percent, with its range over draws if known."""

    value: float
    low: float | None = None
    high: float | None = None


def mean_over_sets(results: Sequence[Result]) -> Mean:
    """The mean of one Result per set. Its range is that of the draws' means, if all sets have equally many draws."""
    draws = [_draws(result) for result in results]
    value = 100 * float(np.mean([result.value for result in results]))
    if not all(draws) or len({len(values) for values in draws}) != 1:
        return Mean(value)
    means = 100 * np.mean(draws, axis=0)
    return Mean(value, float(means.min()), float(means.max()))


def _draws(result: Result) -> list[float]:
    values = result.setting("values", list) or []
    return values if all(map(is_number, values)) else []


def robustness_points(results: Iterable[Result]) -> dict[tuple[str, str], dict[str, tuple[float, float]]]:
    """The points of figure 15 in percent, by model and classifier, then by examples per class ("1", ..., "full").

    x is the mean over the parts of ImageNet that match the shifts, y the mean over the seven shifts. If one of these
    sets is missing, there is no point, because a mean over fewer sets is not comparable.
    """
    scores: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for result in results:
        classifier_and_shots = _examples(result)
        if classifier_and_shots is None or result.split != "test" or result.metric not in _METRICS:
            continue
        subset = result.condition.get("subset")
        column = result.dataset + _METRICS[result.metric] if subset is None else f"ImageNet on {subset}"
        own = scores.setdefault((result.model, classifier_and_shots[0]), {})
        own.setdefault(str(classifier_and_shots[1]), {})[column] = 100 * result.value
    points: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    for key, by_shots in scores.items():
        for shots in sorted(by_shots, key=lambda count: (count == FULL, len(count), count)):
            x, y = average_on_imagenet(by_shots[shots]), average_under_shift(by_shots[shots])
            if x is not None and y is not None:
                points.setdefault(key, {})[shots] = (x, y)
    return points
