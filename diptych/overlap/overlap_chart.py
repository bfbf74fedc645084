"""The two panels of figure 17: one point per evaluation set.

Left: how many images overlap, and how much more accurate the model is on them. Right: how much that raises the accuracy
on the whole set, by the p-value of the one-tailed binomial test.

Source: CLIP paper, section 5 and figure 17.
"""

import dataclasses
from collections.abc import Sequence

from diptych.overlap.contamination import Analysis
from diptych.report.curves import Chart, Series

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


def overlap_charts(groups: Sequence[tuple[str, Sequence[SetPoint]]]) -> list[Chart]:
    """Both panels.

    Args:
        groups: label and points; "" for measured ones, "paper" for the paper's. At most two.
    """
    left: list[Series] = []
    right: list[Series] = []
    for number, (label, points) in enumerate(groups):
        ending = f", {label}" if label else ""
        for excludes, words in ((True, "interval excludes 0"), (False, "interval includes 0, or is unknown")):
            chosen = [point for point in points if point.gap is not None and point.excludes_zero == excludes]
            left += _gaps(chosen, f"{words}{ending}", 2 * number + (not excludes))
        below = 0.0
        for place, (limit, words) in enumerate(P_GROUPS):
            chosen = [point for point in points if point.p is not None and below < max(point.p, 1e-300) <= limit]
            right += _differences(chosen, f"{words}{ending}", place + (len(P_GROUPS) - 1) * number)
            below = limit
    return [
        Chart("On the images that overlap", "images that overlap, %", "Overlap - Clean, points", left),
        Chart("On the whole set", "images that overlap, %", "All - Clean, points", right),
    ]


def _gaps(points: Sequence[SetPoint], label: str, colour: int) -> list[Series]:
    if not points:
        return []
    x, y = [point.overlap for point in points], [point.gap or 0.0 for point in points]
    names = [point.dataset for point in points]
    if any(point.gap_low is None or point.gap_high is None for point in points):
        return [Series(label, x, y, colour=colour, form="markers", names=names)]
    low, high = [point.gap_low or 0.0 for point in points], [point.gap_high or 0.0 for point in points]
    return [Series(label, x, y, low, high, colour=colour, form="markers", names=names)]


def _differences(points: Sequence[SetPoint], label: str, colour: int) -> list[Series]:
    if not points:
        return []
    x, y = [point.overlap for point in points], [point.difference for point in points]
    return [Series(label, x, y, colour=colour, form="markers", names=[point.dataset for point in points])]
