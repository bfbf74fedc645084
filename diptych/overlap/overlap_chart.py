"""The two panels of figure 17: one point per evaluation set.

Left: how many images overlap, and how much more accurate the model is on them. Right: how much that raises the accuracy
on the whole set, by the p-value of the one-tailed binomial test.

Source: CLIP paper, section 5 and figure 17.
"""

import dataclasses
from collections.abc import Sequence

from diptych.overlap.contamination import Analysis
from diptych.report.curves import Chart, Series
from diptych.report.paper_numbers import published

PLACE, PAPER = "figure 17", "the paper's RN50x64"
NOT_READ = "The intervals of the paper's points were not read off; the paper's caption says how many exclude 0."
P_GROUPS = ((1e-3, "p < 0.001"), (0.05, "p < 0.05"), (1.0, "p > 0.05"))


@dataclasses.dataclass(frozen=True)
class SetPoint:
    """One evaluation set, in percent and points.

    Attributes:
        dataset: its name.
        overlap: share of its images that overlap.
        gap: Overlap - Clean, with its interval; None if it is not known.
        difference: All - Clean.
        p: one-tailed p-value, or the upper end of its class; None without a test.
    """

    dataset: str
    overlap: float
    gap: float | None
    difference: float
    p: float | None
    gap_low: float | None = None
    gap_high: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval of the gap excludes 0."""
        return self.gap_low is not None and self.gap_high is not None and not self.gap_low <= 0 <= self.gap_high


def point_of(dataset: str, analysis: Analysis) -> SetPoint | None:
    """The point of a measured set; None if all its images overlap, so that nothing can be compared."""
    s, interval = analysis.subsets, analysis.paper_gap_interval
    if s.difference is None:
        return None
    low, high = (None, None) if interval is None else (100 * interval[0], 100 * interval[1])
    gap = None if s.gap is None else 100 * s.gap
    return SetPoint(dataset, 100 * s.contamination, gap, 100 * s.difference, analysis.p, low, high)


def paper_points() -> list[SetPoint]:
    """The nine sets that the paper names in its figure, as read off the plot."""
    return [
        SetPoint(name, row["overlap"], row.get("overlap minus clean"), row["all minus clean"], row["p below"])
        for name, row in published(PLACE).items()
    ]


def overlap_charts(groups: Sequence[tuple[str, Sequence[SetPoint]]]) -> list[Chart]:
    """Both panels.

    Args:
        groups: label and points; the points of PAPER are drawn as outlines.
    """
    left: list[Series] = []
    right: list[Series] = []
    for label, points in groups:
        ending = f", {label}" if label else ""
        for colour, (excludes, words) in enumerate(
            ((True, "interval excludes 0"), (False, "interval includes 0, or is unknown"))
        ):
            chosen = [point for point in points if point.gap is not None and point.excludes_zero == excludes]
            left += _gaps(chosen, f"{words}{ending}", colour, label == PAPER)
        below = 0.0
        for colour, (limit, words) in enumerate(P_GROUPS):
            chosen = [point for point in points if point.p is not None and below < max(point.p, 1e-300) <= limit]
            right += _differences(chosen, f"{words}{ending}", colour, label == PAPER)
            below = limit
    return [
        Chart("On the images that overlap", "images that overlap, %", "Overlap - Clean, points", left),
        Chart("On the whole set", "images that overlap, %", "All - Clean, points", right),
    ]


def _gaps(points: Sequence[SetPoint], label: str, colour: int, outlined: bool) -> list[Series]:
    if not points:
        return []
    x, y = [point.overlap for point in points], [point.gap or 0.0 for point in points]
    names = [point.dataset for point in points]
    low: list[float] | None = [point.gap_low or 0.0 for point in points]
    high: list[float] | None = [point.gap_high or 0.0 for point in points]
    if any(point.gap_low is None or point.gap_high is None for point in points):
        low = high = None
    return [Series(label, x, y, low, high, colour=colour, form="markers", names=names, outlined=outlined)]


def _differences(points: Sequence[SetPoint], label: str, colour: int, outlined: bool) -> list[Series]:
    if not points:
        return []
    x, y = [point.overlap for point in points], [point.difference for point in points]
    names = [point.dataset for point in points]
    return [Series(label, x, y, colour=colour, form="markers", names=names, outlined=outlined)]
