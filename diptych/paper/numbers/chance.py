"""What guessing scores, and which results cannot be told from it."""

from collections.abc import Mapping, Sequence

from diptych.evalsets.cards import CARDS
from diptych.records import Result, kind_of

_CLASSIFIED = ("zero_shot", "video", "linear_probe", "few_shot")
"""Kinds of tasks whose classes are those of the set; a classifier of ImageNet under a shift has others."""


def chance_of(metric: str, num_classes: int) -> float | None:
    """What guessing scores, a fraction; None for a metric whose chance depends on the data."""
    first = 1 / num_classes
    known = {
        "accuracy": first,
        "accuracy_top_5": min(5, num_classes) * first,
        "mean_per_class_accuracy": first,
        "mean_of_top_1_and_5": (first + min(5, num_classes) * first) / 2,
        "roc_auc": 0.5,
    }
    return known.get(metric)


def num_classes_of(result: Result) -> int | None:
    """The classes that a result chose from; None where nothing tells.

    The result's own setting; of few-shot draws the classes that have examples; else those of the set's card.
    """
    if (told := result.setting("num_classes", int)) is not None and told > 0:
        return told
    per_class, num_train = result.setting("examples_per_class", float), result.setting("train_examples", int)
    if per_class and num_train and num_train >= per_class > 0:
        return round(num_train / per_class)
    card = CARDS.get(result.dataset)
    if card is None or kind_of(result) not in _CLASSIFIED or card.group == "shift" or "shift" in result.condition:
        return None
    return card.num_classes or None


def is_at_chance(result: Result, num_classes: int | None = None) -> bool:
    """Whether the interval of a result, or without one its value, reaches down to what guessing scores."""
    num_classes = num_classes or num_classes_of(result)
    chance = chance_of(result.metric, num_classes) if num_classes else None
    return chance is not None and (result.value if result.low is None else result.low) <= chance


def chance_notes(guessed: Mapping[str, Sequence[str]], words: str) -> list[str]:
    """A sentence for each model that is at chance on some sets."""
    return [
        f"{model}: at chance on {', '.join(names)}: the interval of its zero-shot score reaches down to what guessing "
        f"scores, {words}"
        for model, names in guessed.items()
        if names
    ]
