"""335 published models on ImageNet and its natural shifts: the baseline for effective robustness.

Source: modestyachts/imagenet-testbed (Taori et al., 2020), robustness_top1s.csv, in assets/testbed.csv; the averages as
in the CLIP paper's section 3.3 and figure 13.
"""

import csv
import dataclasses
import functools
import re
from collections.abc import Mapping
from pathlib import Path

from diptych.evalsets.cards import CARDS
from diptych.evaluate.metrics.logit_line import LogitLine, fit_logit_line

_TABLE = Path(__file__).parents[2] / "assets" / "testbed.csv"

SHIFT_NAMES = ("ImageNetV2", "ImageNet-A", "ImageNet-R", "ObjectNet", "ImageNet-Sketch", "ImageNet-Vid", "Youtube-BB")
"""The seven natural shifts, in the order of table 16."""

SUBSETS = tuple(name for name in SHIFT_NAMES if CARDS[name].is_subset)
"""Shifts that have only some of ImageNet's classes."""

VIDEOS = tuple(name for name in SHIFT_NAMES if CARDS[name].has_frames)
"""Shifts whose accuracy is the mean of pm-0 and pm-10."""

# Patterns in model names. A model is standard if it was trained only on ImageNet's training set, without a technique
# that its authors propose for robustness. Searched in this order, in lower case.
_MORE_DATA = (
    "noisystudent",  # JFT, unlabelled
    "instagram|fixresnext",  # pretrained on Instagram
    "bit-m|^vit_(base|large)",  # ImageNet-21k; the small ViT is timm's own, trained only on ImageNet
    "_swsl$|_ssl$",  # Instagram or YFCC100M, unlabelled
    "jft|tencent|imagenet11k|imagenet21k",
    "clip",
)
_TECHNIQUES = (
    "advprop|adv_trained|adv-train|smoothing|_robust$",  # adversarial training, randomised smoothing
    "augmix|deepaugment|cutmix|mixup|cutout",
    "trained_on_sin",  # stylized images
    "_lpf[0-9]",  # antialiased
    "rotation-(random|worst)",
    "_with_.*_aws",  # trained on corruptions
)
_GROUPS = {"more data": "|".join(_MORE_DATA), "technique": "|".join(_TECHNIQUES)}

GROUPS = ("standard", "technique", "more data")

LEAST = 0.6
"""Smallest accuracy on ImageNet's parts for a model to count in a line, a fraction. Weaker models of the testbed lie
far left of figure 13, where the relation differs; the value of the line at 0.9 hardly depends on this limit."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """A model of the testbed.

    Attributes:
        name: its name in the testbed.
        group: one of GROUPS.
        accuracy: fractions by column of the table: "ImageNet", "ImageNet-A", "ImageNet on ImageNet-A", ...,
            "ImageNet-Vid-pm0", "ImageNet-Vid-pm10", ...; accuracies that were not measured are missing.
    """

    name: str
    group: str
    accuracy: Mapping[str, float]

    @property
    def x(self) -> float | None:
        """Mean accuracy on the parts of ImageNet that match the shifts; None if one is missing."""
        return average_on_imagenet(self.accuracy)

    @property
    def y(self) -> float | None:
        """Mean accuracy on the seven shifts; None if one is missing."""
        return average_under_shift(self.accuracy)


def average_on_imagenet(accuracy: Mapping[str, float]) -> float | None:
    """The x of figure 13: the mean over ImageNet, counted twice (for ImageNetV2 and Sketch), and its five parts.

    Args:
        accuracy: "ImageNet" and "ImageNet on ..." for SUBSETS, in one unit.
    Returns:
        Their mean in that unit; None if one is missing.
    """
    return _mean([accuracy.get(part_of_imagenet(name)) for name in SHIFT_NAMES])


def average_under_shift(accuracy: Mapping[str, float]) -> float | None:
    """The y of figure 13: the mean over the seven shifts; a video shift counts with the mean of pm-0 and pm-10.

    Args:
        accuracy: accuracies by shift, with the suffixes "-pm0" and "-pm10" for the two VIDEOS, in one unit.
    Returns:
        Their mean in that unit; None if one is missing.
    """
    return _mean([under_shift(accuracy, name) for name in SHIFT_NAMES])


def under_shift(accuracy: Mapping[str, float], name: str) -> float | None:
    """The accuracy of one shift in the average; None if it is missing."""
    if name in VIDEOS:
        return _mean([accuracy.get(f"{name}-pm0"), accuracy.get(f"{name}-pm10")])
    return accuracy.get(name)


def group_of(name: str) -> str:
    """The group of a testbed model, one of GROUPS, by its name.

    "more data": trained on more than ImageNet's training set, labeled or not, CLIP included. "technique": trained only
    on it, with a technique that its authors propose for robustness (adversarial training, smoothing, corruptions or
    stylized images in training, mixing images, antialiasing). "standard": all other models, including those with
    learned augmentation (AutoAugment, RandAugment), a higher test resolution, self-supervision, few images or few
    epochs.
    """
    return next((group for group, pattern in _GROUPS.items() if re.search(pattern, name.lower())), "standard")


@functools.cache
def testbed() -> tuple[Reference, ...]:
    """All models in the order of the table: the most accurate on ImageNet first."""
    with _TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(
        Reference(
            row["model"],
            group_of(row["model"]),
            {column: float(value) / 100 for column, value in row.items() if column != "model" and value},
        )
        for row in rows
    )


@functools.cache
def standard_line(least: float = LEAST) -> LogitLine:
    """The line through the testbed's standard models.

    Args:
        least: smallest x of the models that count, a fraction.
    """
    return _line([(model.name, model.x, model.y) for model in testbed() if model.group == "standard"], least)[0]


@functools.cache
def shift_line(name: str, least: float = LEAST) -> LogitLine:
    """The line through the standard models for one shift, against accuracy on the matching part of ImageNet."""
    return _line(_on_shift(name), least)[0]


@functools.cache
def without_logit(name: str, least: float = LEAST) -> tuple[str, ...]:
    """The standard models that a shift's line leaves out because their accuracy is exactly 0 % or 100 %.

    For ImageNet-A this is the ResNet-50 whose errors selected the images.
    """
    return _line(_on_shift(name), least)[1]


def _on_shift(name: str) -> list[tuple[str, float | None, float | None]]:
    part, standard = part_of_imagenet(name), [model for model in testbed() if model.group == "standard"]
    return [(model.name, model.accuracy.get(part), under_shift(model.accuracy, name)) for model in standard]


def part_of_imagenet(name: str) -> str:
    """The column of the part of ImageNet that matches a shift: "ImageNet on ImageNet-A", or all of "ImageNet"."""
    return f"ImageNet on {name}" if name in SUBSETS else "ImageNet"


def _line(models: list[tuple[str, float | None, float | None]], least: float) -> tuple[LogitLine, tuple[str, ...]]:
    """The line through models, and the names of the models that it leaves out."""
    points = [(name, x, y) for name, x, y in models if x is not None and y is not None and x >= least]
    line = fit_logit_line([x for _, x, _ in points], [y for *_, y in points])
    return line, tuple(points[place][0] for place in line.left_out)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
