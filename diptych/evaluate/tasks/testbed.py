"""335 models of others on ImageNet and its natural shifts: what is usual, for effective robustness.

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
"""Shifts that have some of ImageNet's classes alone."""

VIDEOS = tuple(name for name in SHIFT_NAMES if CARDS[name].has_frames)
"""Shifts whose accuracy is the mean of pm-0 and pm-10."""

# What a model's name tells. It is standard if it was trained on ImageNet's training set alone, without a technique that
# its authors propose for robustness. Searched for in this order, in lower case.
_MORE_DATA = (
    "noisystudent",  # JFT, unlabelled
    "instagram|fixresnext",  # pretrained on Instagram
    "bit-m|^vit_(base|large)",  # ImageNet-21k; the small one is timm's own, of ImageNet alone
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
"""Smallest accuracy on ImageNet's parts with which a model counts for a line, a fraction. The testbed's models of
little training lie far left of figure 13, where the relation is another one; the line at 0.9 hardly depends on this."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """A model of the testbed.

    Attributes:
        name: the testbed's.
        group: one of GROUPS.
        accuracy: by the column of the table, fractions: "ImageNet", "ImageNet-A", "ImageNet on ImageNet-A", ...,
            "ImageNet-Vid-pm0", "ImageNet-Vid-pm10", ...; what was not measured is missing.
    """

    name: str
    group: str
    accuracy: Mapping[str, float]

    @property
    def x(self) -> float | None:
        """Mean accuracy on the parts of ImageNet that match the shifts; None where one is missing."""
        return average_on_imagenet(self.accuracy)

    @property
    def y(self) -> float | None:
        """Mean accuracy on the seven shifts; None where one is missing."""
        return average_under_shift(self.accuracy)


def average_on_imagenet(accuracy: Mapping[str, float]) -> float | None:
    """The x of figure 13: mean over ImageNet's validation set, twice (ImageNetV2, Sketch), and its five parts.

    Args:
        accuracy: "ImageNet" and "ImageNet on ..." of SUBSETS, in one unit.
    Returns:
        Their mean in that unit; None where one is missing.
    """
    return _mean([accuracy.get(part_of_imagenet(name)) for name in SHIFT_NAMES])


def average_under_shift(accuracy: Mapping[str, float]) -> float | None:
    """The y of figure 13: mean over the seven shifts, the videos as the mean of pm-0 and pm-10.

    Args:
        accuracy: by shift, with "-pm0" and "-pm10" behind the names of the two VIDEOS, in one unit.
    Returns:
        Their mean in that unit; None where one is missing.
    """
    return _mean([under_shift(accuracy, name) for name in SHIFT_NAMES])


def under_shift(accuracy: Mapping[str, float], name: str) -> float | None:
    """One shift's part in the average; None where it is missing."""
    if name in VIDEOS:
        return _mean([accuracy.get(f"{name}-pm0"), accuracy.get(f"{name}-pm10")])
    return accuracy.get(name)


def group_of(name: str) -> str:
    """Which of GROUPS a model of the testbed belongs to, by its name.

    "more data": trained on more than ImageNet's training set, labeled or not, CLIP included. "technique": on it alone,
    with what its authors propose for robustness (adversarial training, smoothing, corruptions or stylized images in
    training, mixing images, antialiasing). "standard": all others, among them those with learned augmentation
    (AutoAugment, RandAugment), a higher test resolution, self-supervision, few images or few epochs.
    """
    return next((group for group, marks in _GROUPS.items() if re.search(marks, name.lower())), "standard")


@functools.cache
def testbed() -> tuple[Reference, ...]:
    """All models, in the table's order: the most accurate on ImageNet first."""
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
        least: smallest x of a model that counts, a fraction.
    """
    return _line([(one.name, one.x, one.y) for one in testbed() if one.group == "standard"], least)[0]


@functools.cache
def shift_line(name: str, least: float = LEAST) -> LogitLine:
    """The line through the standard models on one shift alone, over their accuracy on the matching part of ImageNet."""
    return _line(_on_shift(name), least)[0]


@functools.cache
def without_logit(name: str, least: float = LEAST) -> tuple[str, ...]:
    """The standard models that are not in a shift's line because they have exactly 0 % or 100 % there.

    Of ImageNet-A that is the ResNet-50 whose errors its images were chosen by.
    """
    return _line(_on_shift(name), least)[1]


def _on_shift(name: str) -> list[tuple[str, float | None, float | None]]:
    part, standard = part_of_imagenet(name), [one for one in testbed() if one.group == "standard"]
    return [(one.name, one.accuracy.get(part), under_shift(one.accuracy, name)) for one in standard]


def part_of_imagenet(name: str) -> str:
    """The column of the part of ImageNet that matches a shift: "ImageNet on ImageNet-A"; of some, all of it."""
    return f"ImageNet on {name}" if name in SUBSETS else "ImageNet"


def _line(models: list[tuple[str, float | None, float | None]], least: float) -> tuple[LogitLine, tuple[str, ...]]:
    """The line through models, and the names of those that it leaves out."""
    points = [(name, x, y) for name, x, y in models if x is not None and y is not None and x >= least]
    line = fit_logit_line([x for _, x, _ in points], [y for *_, y in points])
    return line, tuple(points[place][0] for place in line.left_out)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
