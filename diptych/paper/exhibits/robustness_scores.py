"""Scores under ImageNet's natural shifts: measured ones from Results, and values derived from the paper's numbers."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from diptych.evaluate.tasks.testbed import (
    SHIFT_NAMES,
    VIDEOS,
    average_on_imagenet,
    average_under_shift,
    under_shift,
)
from diptych.records import Result, kind_of
from diptych.report.paper_numbers import published

ADAPTIVE, STATIC, ADAPTED = "zero-shot", "zero-shot, ImageNet's classes", "probe on ImageNet"
"""The classifiers: each set's own class names, one classifier of ImageNet's classes, a probe fitted to ImageNet."""

COLUMNS = (
    "ImageNet",
    "ImageNetV2",
    "ImageNet-A",
    "ImageNet-R",
    "ObjectNet",
    "ImageNet-Sketch",
    *(f"{name}-pm{k}" for name in VIDEOS for k in (0, 10)),
)
"""The columns of table 16."""

_METRICS = {"accuracy": "", "accuracy_pm_0": "-pm0", "accuracy_pm_10": "-pm10"}
_WAYS: Mapping[tuple[str, str, object], Sequence[str]] = {
    ("zero_shot", "ensemble", None): (ADAPTIVE, STATIC),
    ("robustness", "ensemble", "static"): (ADAPTIVE, STATIC),
    ("robustness", "ensemble", "adaptive"): (ADAPTIVE,),
    ("linear_probe", "features", None): (ADAPTED,),
    ("imagenet_probe", "adapted", None): (ADAPTED,),
}
"""The classifiers for which a Result counts, by its task, protocol and `classifier`."""
_IMAGENET_ALONE = ("zero_shot", "linear_probe")
"""Tasks whose Results are only used on ImageNet: on a shift they use the templates of that set."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """Results of a model with one classifier, by column: "ImageNet", "ImageNet on ObjectNet", "ImageNet-A", ..."""

    results: Mapping[str, Result]

    @property
    def percents(self) -> dict[str, float]:
        """The values as percent."""
        return {column: 100 * result.value for column, result in self.results.items()}

    @property
    def x(self) -> float | None:
        """Mean over the parts of ImageNet that match the shifts, percent; None if one is missing."""
        return average_on_imagenet(self.percents)

    @property
    def y(self) -> float | None:
        """Mean over the seven shifts, percent; None if one is missing."""
        return average_under_shift(self.percents)


def measured_scores(results: Iterable[Result]) -> dict[tuple[str, str], Scores]:
    """Results by model and ADAPTIVE, STATIC or ADAPTED. Later Results replace earlier ones of the same number.

    If a shift has the classes of ImageNet, the static classifier is also the adaptive one.
    """
    results_by_key: dict[tuple[str, str], dict[str, Result]] = {}
    for result in results:
        column, ways = _place(result) if result.split == "test" else ("", ())
        for way in ways:
            scores = results_by_key.setdefault((result.model, way), {})
            before = scores.get(column)
            if before is None or _is_adaptive(result) or not _is_adaptive(before):
                scores[column] = result
    ways = [ADAPTIVE, STATIC, ADAPTED]
    keys = [key for key, scores in results_by_key.items() if set(scores) & {*COLUMNS} - {"ImageNet"}]
    models = list(dict.fromkeys(model for model, _ in keys))
    return {
        key: Scores(results_by_key[key])
        for key in sorted(keys, key=lambda key: (models.index(key[0]), ways.index(key[1])))
    }


def _place(result: Result) -> tuple[str, Sequence[str]]:
    """The column of a Result, and the classifiers for which it counts; none if it is another measurement."""
    condition = result.condition
    if not condition.keys() <= {"classifier", "subset"}:
        return "", ()
    task = kind_of(result) if result.task == "shifts" else result.task  # shifts also measures the clean set
    ways = _WAYS.get((task, result.protocol, condition.get("classifier")), ())
    if "subset" in condition:
        of_imagenet = result.dataset == "ImageNet" and result.metric == "accuracy"
        return f"ImageNet on {condition['subset']}", ways if of_imagenet else ()
    column = result.dataset + _METRICS.get(result.metric, "?")
    if task in _IMAGENET_ALONE and result.dataset != "ImageNet":
        ways = ()
    return column, ways if column in COLUMNS else ()


def _is_adaptive(result: Result) -> bool:
    return result.condition.get("classifier") == "adaptive"


def paper_exchanged() -> dict[str, float]:
    """Zero-shot CLIP of table 16 with its two pm-10 cells exchanged, percent. Only so does it agree with figure 14."""
    row = dict(published("table 16")["Zero-Shot CLIP"])
    first, second = (f"{name}-pm10" for name in VIDEOS)
    row[first], row[second] = row[second], row[first]
    return row


def paper_static() -> dict[str, float]:
    """Zero-shot CLIP with ImageNet's 1,000 classes, by shift, percent: table 16 minus figure 14's adaptation."""
    row, changes = paper_exchanged(), published("figure 14")["adapt to class shift"]
    return {name: _known(under_shift(row, name)) - changes[name] for name in SHIFT_NAMES}


def paper_means() -> dict[str, float]:
    """Means over the seven shifts, percent, from table 16 and figure 14, by ADAPTIVE, STATIC and ADAPTED."""
    rows, static = published("table 16"), paper_static()
    return {
        ADAPTIVE: _known(average_under_shift(rows["Zero-Shot CLIP"])),
        STATIC: sum(static.values()) / len(static),
        ADAPTED: _known(average_under_shift(rows["Linear Probe CLIP"])),
    }


def paper_changes(to: str) -> dict[str, float]:
    """The change by an adaptation of CLIP on each set, in points, as figure 14 prints it.

    Args:
        to: "adapt to ImageNet" or "adapt to class shift".
    """
    return dict(published("figure 14")[to])


def paper_points(figure: str, series: str) -> list[tuple[float, float]]:
    """(x, y) of a series of figure 13 or 14 in percent, as read off the plot."""
    rows = [cells for name, cells in published(figure).items() if name.startswith(series)]
    return [(cells["subsampled ImageNet"], cells["seven shifts"]) for cells in rows]


def changes(before: Scores, after: Scores) -> dict[str, float]:
    """The changes on ImageNet and on each shift that both have, in points."""
    old_percents, new_percents = before.percents, after.percents
    both = {
        name: (under_shift(old_percents, name), under_shift(new_percents, name)) for name in ("ImageNet", *SHIFT_NAMES)
    }
    return {name: new - old for name, (old, new) in both.items() if old is not None and new is not None}


def _known(value: float | None) -> float:
    assert value is not None
    return value
