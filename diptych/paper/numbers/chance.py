"""Chance: the score of guessing, and which Results are not distinguishable from it."""

from collections.abc import Mapping, Sequence

from diptych.evalsets.cards import CARDS
from diptych.records import Result, kind_of

_CLASSIFIED = ("zero_shot", "video", "linear_probe", "few_shot")
"""Kinds of tasks that use the classes of the set. A classifier of ImageNet under a shift uses other classes."""


def chance_of(metric: str, num_classes: int) -> float | None:
    """The score of guessing, a fraction; None for a metric whose chance depends on the data."""
    top_1 = 1 / num_classes
    chances = {
        "accuracy": top_1,
        "accuracy_top_5": min(5, num_classes) * top_1,
        "mean_per_class_accuracy": top_1,
        "mean_of_top_1_and_5": (top_1 + min(5, num_classes) * top_1) / 2,
        "roc_auc": 0.5,
    }
    return chances.get(metric)


def num_classes_of(result: Result) -> int | None:
    """The number of classes of a Result; None if unknown.

    Sources, in this order: the Result's own setting; for few-shot draws the number of classes with examples; the card.
    """
    if (num_classes := result.setting("num_classes", int)) is not None and num_classes > 0:
        return num_classes
    per_class, num_train = result.setting("examples_per_class", float), result.setting("train_examples", int)
    if per_class and num_train and num_train >= per_class > 0:
        return round(num_train / per_class)
    card = CARDS.get(result.dataset)
    if card is None or kind_of(result) not in _CLASSIFIED or card.group == "shift" or "shift" in result.condition:
        return None
    return card.num_classes or None


def is_at_chance(result: Result, num_classes: int | None = None) -> bool:
    """Whether the lower end of a Result's interval, or its value without interval, is at most the score of guessing."""
    num_classes = num_classes or num_classes_of(result)
    chance = chance_of(result.metric, num_classes) if num_classes else None
    return chance is not None and (result.value if result.low is None else result.low) <= chance


def chance_notes(guessed: Mapping[str, Sequence[str]], consequence: str) -> list[str]:
    """A sentence for each model that is at chance on some sets.

    Args:
        guessed: by model, the sets at chance.
        consequence: end of the sentence: what follows for the exhibit.
    """
    return [
        f"{model}: at chance on {', '.join(names)}: the interval of its zero-shot score reaches down to what guessing "
        f"scores, {consequence}"
        for model, names in guessed.items()
        if names
    ]
