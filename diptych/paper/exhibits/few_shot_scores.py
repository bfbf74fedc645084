"""Few-shot Results as curves over labelled examples per class, with zero-shot and full supervision beside them."""

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
    """One model on one set.

    Attributes:
        shots: by classifier and examples per class, the Result.
        zero_shot: the ensemble of templates; None where it was not measured.
        full: the linear probe on the whole training set; None where it was not measured.
        full_examples: examples per class of the whole training set; None where no Result tells.
        num_classes: None where no Result tells.
    """

    shots: Mapping[str, Mapping[int, Result]]
    zero_shot: Result | None = None
    full: Result | None = None
    full_examples: float | None = None
    num_classes: int | None = None

    def points(self, classifier: str = PROBE) -> tuple[list[float], list[float]]:
        """Examples per class, increasing, and scores, fractions; for the probe with full supervision at the end."""
        found: dict[float, float] = {shots: one.value for shots, one in self.shots.get(classifier, {}).items()}
        if classifier == PROBE and self.full is not None and self.full_examples is not None:
            found = {shots: value for shots, value in found.items() if shots < self.full_examples}
            found[self.full_examples] = self.full.value
        shots = sorted(found)
        return shots, [found[one] for one in shots]

    def needed(self) -> float | None:
        """The examples per class with which the probe matches zero-shot; None where it never does.

        To be asked only where it `can_be_matched`.
        """
        assert self.zero_shot is not None
        return examples_to_match(*self.points(), self.zero_shot.value)

    @property
    def is_at_chance(self) -> bool:
        """Whether guessing is as good as zero-shot, within its interval: then no number of examples equals it."""
        if self.zero_shot is None:
            return False
        return is_at_chance(self.zero_shot, self.num_classes)

    @property
    def can_be_matched(self) -> bool:
        """Whether zero-shot was measured, and the curve as far as it takes.

        Where few shots reach zero-shot no full supervision is needed.
        """
        if self.zero_shot is None or PROBE not in self.shots:
            return False
        return self.points()[0][-1] == self.full_examples or max(self.points()[1]) >= self.zero_shot.value


def curves(results: Iterable[Result]) -> dict[str, dict[str, Curve]]:
    """By model and set, where there is a few-shot Result; of two measurements of one thing, the later.

    Full supervision is the few-shot probe's with all examples ("shots" is "full") or else the linear probe's, in the
    few-shot Results' metric; an encoder without features has but a "projected" one. The shifts of ImageNet, which have
    no training set, are left out.
    """
    shots: dict[tuple[str, str], dict[str, dict[int, Result]]] = {}
    beside: dict[tuple[str, str, str, str, str], Result] = {}
    for result in results:
        if result.split != "test":
            continue
        place = (result.model, result.dataset)
        match _examples(result):
            case (str(classifier), int(number)):
                if "subset" not in result.condition and result.dataset not in SHIFT_NAMES:
                    shots.setdefault(place, {}).setdefault(classifier, {})[number] = result
            case (classifier, _) if classifier == PROBE and "subset" not in result.condition:
                beside[*place, result.metric, "few_shot", FULL] = result
            case None if not result.condition:
                beside[*place, result.metric, kind_of(result), result.protocol] = result
    made: dict[str, dict[str, Curve]] = {}
    for (model, dataset), own in shots.items():
        some = next(iter(next(iter(own.values())).values()))
        key = (model, dataset, some.metric)
        wanted = (("few_shot", FULL), ("linear_probe", "features"), ("linear_probe", "projected"))
        full = next((beside[(*key, *one)] for one in wanted if (*key, *one) in beside), None)
        zero_shot = beside.get((*key, "zero_shot", "ensemble"))
        curve = Curve(own, zero_shot, full, _full_examples(some, full), num_classes_of(some))
        made.setdefault(model, {})[dataset] = curve
    return made


def _examples(result: Result) -> tuple[str, int | str] | None:
    """Classifier and examples per class, a number or FULL, of a few-shot Result; None of others."""
    classifier, shots = result.condition.get("classifier"), result.condition.get("shots")
    if (
        kind_of(result) != "few_shot"
        or not isinstance(classifier, str)
        or not (shots == FULL or isinstance(shots, int))
    ):
        return None
    return classifier, shots


def _full_examples(few: Result, full: Result | None) -> float | None:
    """Examples per class of full supervision.

    All that the linear probe learned from, validation pictures with it, over the number of classes; where the probe
    does not tell, the training split's.
    """
    per_class, num_train = few.setting("examples_per_class", float), few.setting("train_examples", int)
    num_learned = None if full is None else full.setting("train", int)
    if not per_class or not num_train or not num_learned:
        return None if per_class is None else float(per_class)
    return float(per_class) * num_learned / num_train


@dataclasses.dataclass(frozen=True)
class Mean:
    """A mean over sets, percent, with its range over draws where that is known."""

    value: float
    low: float | None = None
    high: float | None = None


def mean_over_sets(results: Sequence[Result]) -> Mean:
    """Mean of one Result per set; its range is that of the draws' means, where all sets have equally many draws."""
    draws = [_draws(one) for one in results]
    value = 100 * float(np.mean([one.value for one in results]))
    if not all(draws) or len({len(one) for one in draws}) != 1:
        return Mean(value)
    means = 100 * np.mean(draws, axis=0)
    return Mean(value, float(means.min()), float(means.max()))


def _draws(result: Result) -> list[float]:
    values = result.setting("values", list) or []
    return values if all(map(is_number, values)) else []


def robustness_points(results: Iterable[Result]) -> dict[tuple[str, str], dict[str, tuple[float, float]]]:
    """By model and classifier, for each number of examples per class ("1", ..., "full"), figure 15's point in percent.

    x is the mean over the parts of ImageNet that match the shifts, y that over the seven shifts. Where one of either is
    missing there is no point, for a mean over fewer sets is another number.
    """
    scores: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for result in results:
        found = _examples(result)
        if found is None or result.split != "test" or result.metric not in _METRICS:
            continue
        subset = result.condition.get("subset")
        column = result.dataset + _METRICS[result.metric] if subset is None else f"ImageNet on {subset}"
        own = scores.setdefault((result.model, found[0]), {})
        own.setdefault(str(found[1]), {})[column] = 100 * result.value
    made: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    for key, by_shots in scores.items():
        for shots in sorted(by_shots, key=lambda one: (one == FULL, len(one), one)):
            x, y = average_on_imagenet(by_shots[shots]), average_under_shift(by_shots[shots])
            if x is not None and y is not None:
                made.setdefault(key, {})[shots] = (x, y)
    return made
